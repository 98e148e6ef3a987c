"""Names that a package gives without importing their modules before they are used; of no floor."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def lazy_names(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` assigns, so that its names are imported when they are first used.

    Its names are those of the imports that stand there under `TYPE_CHECKING`, read from its text:
    type checkers and this function so see the same ones.

    Args:
        package, file: the package's `__name__` and `__file__`.

    Returns:
        `__getattr__` (of submodules, too, see PEP 562), `__dir__` and `__all__`.
    """
    blocks = [part for part in ast.parse(Path(file).read_text()).body if isinstance(part, ast.If)]
    table = {
        alias.name: str(imported.module)
        for block in blocks
        for imported in block.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    itself = sys.modules[package]

    def load(name: str) -> object:
        missing = AttributeError(f"module {package!r} has no attribute {name!r}")
        if name in table:
            value: object = getattr(import_module(table[name]), name)
        elif name.startswith("_"):
            raise missing
        else:
            try:
                value = import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{package}.{name}":
                    raise  # of a module that this one wants
                raise missing from None
        setattr(itself, name, value)
        return value

    return load, lambda: sorted({*vars(itself), *table}), sorted(table)
