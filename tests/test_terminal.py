"""What is printed at a terminal breaks at spaces, and nowhere else changes."""

import sys

import pytest

from diffsmooth.terminal import for_terminal

SENTENCE = " ".join(["word"] * 30)


@pytest.mark.parametrize(
    ("line", "indent"),
    [
        (SENTENCE, 2), (f"  {SENTENCE}", 4), (f"- {SENTENCE}", 2),
        (f"  cost         {SENTENCE}", 15),
        (f"  it says      {SENTENCE}", 15),
    ],
)  # fmt: skip
def test_a_sentence_is_broken_at_spaces_below_its_beginning(line: str, indent: int) -> None:
    first, *more = for_terminal(line, 60).split("\n")
    assert all(len(one) <= 60 for one in (first, *more))
    assert first == line[: len(first)]
    assert all(one.startswith(indent * " " + "word") for one in more)
    assert " ".join([first, *map(str.strip, more)]) == line
    assert for_terminal(line, 1000) == line


@pytest.mark.parametrize(
    "line",
    [
        "cohen" + 20 * "   0.500",
        f"a page of all: diffsmooth report {SENTENCE}",
        "x" * 200,
        "/a/" + 100 * "path-with-hyphens/",
        "",
    ],
)
def test_rows_commands_and_names_stay_whole(line: str) -> None:
    assert for_terminal(line, 60) == line


def test_a_file_gets_the_text_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert for_terminal(SENTENCE) == SENTENCE
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert for_terminal(f"{SENTENCE}\n{SENTENCE}").count("\n") == 5
