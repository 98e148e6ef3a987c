"""Words that no one knows raise; those of other packages are imported."""

import sys
from pathlib import Path

import pytest

from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import Registry


@pytest.fixture
def shapes() -> Registry[int]:
    return Registry("shape", square=4, triangle=3)


def test_a_word_stands_for_its_thing(shapes: Registry[int]) -> None:
    assert shapes["square"] == 4
    assert shapes.add("hexagon", 6) == 6
    assert shapes["hexagon"] == 6
    assert list(shapes) == ["square", "triangle", "hexagon"]


@pytest.mark.parametrize("word", ["", "circle", "Square", "square ", ":x", ".x:y", "a:b:c"])
def test_an_unknown_word_raises_and_the_known_ones_are_named(
    shapes: Registry[int], word: str
) -> None:
    with pytest.raises(UserError, match=r"shape must be square or triangle or PACKAGE.MODULE:NAME"):
        shapes[word]


@pytest.mark.parametrize("word", ["square", "two words", "a:b"])
def test_a_word_is_taken_once(shapes: Registry[int], word: str) -> None:
    with pytest.raises(ValueError, match="taken, or no identifier"):
        shapes.add(word, 1)


def test_another_packages_thing_is_imported(
    shapes: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outsider_shapes.py").write_text("pentagon = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert shapes["outsider_shapes:pentagon"] == 5
    with pytest.raises(UserError, match="outsider_shapes has no circle"):
        shapes["outsider_shapes:circle"]


@pytest.mark.parametrize("word", ["no_such_module_1:x", "no_such_module_1.sub:x"])
def test_a_module_that_is_not_there_is_named(shapes: Registry[int], word: str) -> None:
    with pytest.raises(UserError, match="there is no module"):
        shapes[word]


def test_a_bug_of_theirs_keeps_its_traceback(
    shapes: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outsider_broken_1.py").write_text("import no_such_module_2\n")
    (tmp_path / "outsider_broken_2.py").write_text("pentagon = None.five\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_2"):
        shapes["outsider_broken_1:x"]
    with pytest.raises(AttributeError, match="five"):
        shapes["outsider_broken_2:pentagon"]


def test_a_refusal_in_their_module_is_their_bug(
    shapes: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outsider_broken_3.py").write_text("int('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="invalid literal"):
        shapes["outsider_broken_3:x"]
