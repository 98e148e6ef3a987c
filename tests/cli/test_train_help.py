"""The stored help of train.py, and mistakes in its words that are seen before Lightning is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffsmooth.cli import train
from diffsmooth.cli.train import asked_help, check_words
from diffsmooth.cli.train_help import FOLDER, MADE_WITH, help_text
from diffsmooth.cli.train_help.__main__ import versions
from diffsmooth.stats.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def test_the_stored_help_is_lightnings_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = "python -m diffsmooth.cli.train_help makes it anew"
    if versions() != MADE_WITH.read_text():
        pytest.skip(f"the stored help is of {MADE_WITH.read_text().split()}: {again}")
    monkeypatch.setenv("COLUMNS", "61")  # of a terminal, which must not matter
    # In a process of its own: the parser's help names every class that any test has made.
    words = [sys.executable, "-m", "diffsmooth.cli.train_help", str(tmp_path)]
    subprocess.run(words, cwd=REPOSITORY, check=True)
    stored = {path.name: path.read_text() for path in FOLDER.glob("*.txt")}
    assert stored == {path.name: path.read_text() for path in tmp_path.iterdir()}, again


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["--help"], "train.py {fit,validate,test} [options]"),
        (["fit", "--help"], "train.py fit [options]"),
        (["validate", "-c", "x.yaml", "-h"], "train.py validate [options]"),
        (["-h", "test"], "train.py {fit,validate,test} [options]"),
    ],
)
def test_help_is_of_the_subcommand_before_it(
    words: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(words, "diffsmooth train")
    out = capsys.readouterr().out
    assert out.startswith("usage: " + usage.replace("train.py", "diffsmooth train"))
    assert "train.py" not in out
    assert "python" not in out.partition("\nexample")[2]


def test_help_speaks_in_words_and_of_what_is_ours_first() -> None:
    text = help_text("fit", "train.py")
    assert not re.findall(r"\bnull\b|Union\[|Optional\[|``|:\w+:`", text)
    places = [text.index(f"\n{title}:\n") for title in ("options", "model", "data", "checkpoint")]
    assert places == sorted(places)
    assert places[-1] < text.index("\ntrainer, which is Lightning's:\n") < text.index("\nexamples:")


def test_help_of_a_class_is_lightnings() -> None:
    assert asked_help(["fit", "--model.help", "GaussianTraining"]) is None
    assert "--model.help" in help_text("fit", "train.py")
    assert "diffsmooth.lit.training.GaussianTraining" in help_text("fit", "train.py")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a subcommand is wanted: known are fit, validate, test (--help explains them)"),
        (["fti"], "unknown subcommand 'fti': known are fit, validate, test"),
        (["fit", "-c", "no.yaml"], "no.yaml: no such config"),
        (["fit", "--config=no.yaml"], "no.yaml: no such config"),
        (["fit", "-c", "."], ".: a folder, not a config"),
        (["test", "--ckpt_path", "no.ckpt"], "no.ckpt: no such checkpoint"),
        (["fit", "--ckpt_path=no/no.ckpt"], "no/no.ckpt: no such checkpoint"),
    ],
)
def test_mistakes_are_seen_before_lightning_is(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match="^" + message.replace("(", r"\(").replace(")", r"\)")):
        check_words(words)


def test_what_may_be_right_is_left_to_lightning(tmp_path: Path) -> None:
    (tmp_path / "other.ckpt").touch()  # read_trained names it
    for word in ("last", "null", "s3://bucket/a.ckpt", str(tmp_path / "no.ckpt"), "x" * 5000):
        check_words(["fit", "--ckpt_path", word])
    for word in ("{data: {seed: 1}}", "s3://bucket/a.yaml", "data:\n  seed: 1", "\0"):
        check_words(["-c", word, "fit"])
