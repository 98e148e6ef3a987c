"""Each command's help: options in groups, words instead of types, examples that can be typed."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from diffsmooth.cli import options
from diffsmooth.cli.help_layout import GROUPS
from diffsmooth.cli.main import COMMANDS
from diffsmooth.cli.train_help import FOLDER
from diffsmooth.pipeline.option_records import options_of
from diffsmooth.pipeline.specification import CertifyOptions, PredictOptions
from diffsmooth.pipeline.tune_specification import TuneOptions

OURS = [name for name in COMMANDS if name != "train"]  # its help is Lightning's, see its own test


@pytest.fixture(params=OURS)
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def help_of(command: str, capsys: pytest.CaptureFixture[str], columns: int = 80) -> str:
    with pytest.raises(SystemExit) as end:
        import_module(f"diffsmooth.cli.{command}").main(["--help"], prog=f"diffsmooth {command}")
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_speaks_in_words(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(command, capsys)
    assert not re.findall(r"null|None|Union|Optional|Literal|\bTrue\b|\bFalse\b|%\(", text)
    assert text.startswith(f"usage: diffsmooth {command} [options]")
    lines = [line for line in text.splitlines() if not line.startswith("  --")]
    assert max(map(len, lines)) <= 90  # examples are not broken


class Read(Exception):
    """The words are options."""


def test_examples_are_options_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(f"diffsmooth.cli.{command}")
    examples = help_of(command, capsys).partition("\nexample")[2].splitlines()[1:]
    assert examples

    def read(parser: ArgumentParser, words: list[str] | None = None) -> None:
        original(parser, words)
        raise Read

    original = options.OneLineParser.parse_args
    monkeypatch.setattr(options.OneLineParser, "parse_args", read)
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["diffsmooth", command]
        with pytest.raises(Read):
            module.main(words[2:], prog=command)


def test_no_shared_option_is_without_a_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    for record in (CertifyOptions, PredictOptions, TuneOptions):
        assert {one.name for one in options_of(record)} <= set(grouped)


def test_groups_stand_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("certify", capsys)
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    hardware = text[places[-1] :]
    assert "--devices" in hardware
    assert "--alpha" not in hardware


def test_the_help_of_demo_has_its_own_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = help_of("demo", capsys)
    assert text.startswith("usage: diffsmooth demo [options]\n")  # nothing is required
    assert "required" not in text.partition("\ndata:")[2]
    for option, default in (
        ("dataset", "fashion_mnist_sample"), ("outfile", "logs/demo.txt"), ("n", "1000"),
        ("sigma", "0.5"), ("overwrite", "yes"), ("skip", "50"),
    ):  # fmt: skip
        (said,) = re.findall(rf"^  --{option}\b[^(]*(?:\(.*)?\n(?:    .*\n)*", text, re.MULTILINE)
        assert f"default: {default})" in " ".join(said.split()), said


def test_the_help_of_predict_is_of_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of("predict", capsys).split())
    assert "N0" not in text
    assert "table to write; its journal and manifest lie beside it" in text
    assert "take every skip-th image (int, default: 1)" in text
    assert "(default: )" not in help_of("export", capsys)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_help_of_trainings_fits_a_terminal(path: Path) -> None:
    text = path.read_text().partition("\nexample")[0]
    assert [line for line in text.splitlines() if len(line) > 80 and " " in line.strip()] == []
