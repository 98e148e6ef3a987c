"""Packages whose names are imported when they are used: what they give, and how lightly."""

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import diffsmooth

PACKAGES = (
    "diffsmooth",
    "diffsmooth.lit.data",
    "diffsmooth.lit.training",
    "diffsmooth.models",
    "diffsmooth.report",
    "diffsmooth.stats",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_lazy_names_are_those_that_type_checkers_see(package: str) -> None:
    module = import_module(package)
    source = Path(str(module.__file__)).read_text()
    seen = {
        alias.name: imported.module
        for imported in ast.walk(ast.parse(source))
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    del seen["TYPE_CHECKING"], seen["lazy_names"]

    assert module.__all__ == sorted(seen)
    assert set(seen) <= set(dir(module))
    for name, owner in seen.items():
        assert getattr(module, name) is getattr(import_module(str(owner)), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_lazy_name_is_no_submodules(package: str) -> None:
    module = import_module(package)  # importing the submodule would put it in the name's place
    taken = {path.stem for path in Path(str(module.__file__)).parent.iterdir()}
    assert not taken & set(module.__all__)


def test_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match=r"module 'diffsmooth' has no attribute 'nothing'"):
        diffsmooth.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from diffsmooth.models import nothing")


def test_submodules_are_attributes_and_star_imports_all_names() -> None:
    program = (
        "import diffsmooth, sys; heavy = {'numpy', 'scipy', 'torch'} & {*sys.modules}\n"
        "assert not heavy\n"
        "assert diffsmooth.stats.bounds.lower_confidence_bound(1, 1, 0.5) > 0.49\n"
        "from diffsmooth.stats import *\n"
        "assert ABSTAIN == -1 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_instances_of_lazily_imported_classes_are_pickled() -> None:
    plan = diffsmooth.FixedSampleSize(n0=3, n=5)
    assert pickle.loads(pickle.dumps(plan)) == plan
