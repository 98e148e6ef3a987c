"""Names that a package gives without importing their modules before they are used; of no floor."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` assigns, so that its names are imported when they are first used.

    Type checkers read the imports that stand beside it under `TYPE_CHECKING`.

    Args:
        package: the package's `__name__`.
        modules: modules' names to the names that are theirs, separated by spaces.

    Returns:
        `__getattr__` (of submodules, too, see PEP 562), `__dir__` and `__all__`.
    """
    table = {name: module for module, names in modules.items() for name in names.split()}
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
