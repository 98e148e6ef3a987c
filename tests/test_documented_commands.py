"""Every command and Python block of the site's pages is parsed, and run or said why not.

A block that is not run has the reason before it, `<!-- not run: REASON -->`; where that is for some
of its commands only, these contain WORD: `<!-- not run (WORD): REASON -->`.
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from diffsmooth.cli.errors import OneLineParser

REPOSITORY = Path(__file__).parents[1]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "checkpoints/README.md")
PAGES = [*OUTSIDE, *sorted(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("docs/**/*.md"))]
LANGUAGES = ("", "bibtex", "python", "sh")  # "" is what came out
MARK = r"<!-- not run(?: \(([^)\n]+)\))?: [^>\n]+ -->"
BLOCK = re.compile(rf"(?:^{MARK}\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("for ", "done", "if ")  # how lines begin that are the shell's own

# What the pages leave open; more words come first.
LEFT_OPEN = {
    "[RUN ...] [--replay K]": "--replay 3",
    "[RUN ...]": "",
    "[-c ...]": "",
    "... OUT.txt": "fashion_mnist_sample CHECKPOINT 0.5 OUT.txt",
    "...": "--config configs/certify/demo.yaml",
}
STANDS_FOR = {
    "CHECKPOINT": "checkpoints/fashion_mnist_gaussian_0.25.pt",
    "FILE": "checkpoints/fashion_mnist_gaussian_0.25.pt",
    "PATH": "own",
    "PILOT.jsonl": "docs/studies/fashion_mnist/diffsmooth.jsonl",
    "RUN": "docs/studies/fashion_mnist/cohen.txt",
    "cifar10": "fashion_mnist_sample",
}
# Behind the words of a command, which they override: few images, few votes, one process.
VOTES = "--N0 5 --N 20 --batch 25 --skip 400 --no_sanity_check"
PROCESS = "--devices 1 --accelerator cpu --threads 1"
TINY = {
    "certify": f"{VOTES} {PROCESS}",
    "demo": f"{VOTES} {PROCESS}",
    "attack": f"--max_images 1 --methods pgd --steps 1 --noise_samples 1 --N 12 --budgets 0.5 "
    f"--search_votes 11 {PROCESS}",
    "tune": "--validation_images 20 --images 4 --sigma_local 0.25 --m 1 --N 50 --radius 0.1 "
    "--accelerator cpu",
    "forecast": "--images 100 --devices 1 8",
    "train fit": "--data.batch_size 8 --data.workers 0 --data.validation_images 40 "
    "--trainer.accelerator cpu --trainer.devices 1 --trainer.precision 32-true "
    "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1 "
    "--trainer.log_every_n_steps 1 --trainer.enable_progress_bar false",
    "train test": "--data.batch_size 8 --data.workers 0 --trainer.accelerator cpu "
    "--trainer.precision 32-true --trainer.limit_test_batches 1 "
    "--trainer.enable_progress_bar false",
    "visualize": "--accelerator cpu",
    "doctor": "--accelerator cpu --images 2",
}
# And of commands that contain a word.
TINY_OF = {
    "--data.dataset PATH": "--name own --model.init_args.arch cifar_resnet8",
    "configs/train/cifar10_smoothadv_64.yaml": "--data.root colours "
    "--model.init_args.arch cifar_resnet8",
    "mine:network": "--skip 2",
    "--outfile OUT.txt": "--overwrite",  # several lines write that
}

MINE = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


class Block(NamedTuple):
    """Of a page: its language, text, and what is not run ("" is all) or None."""

    page: str
    line: int
    language: str
    text: str
    left_out: str | None


class Call(NamedTuple):
    """A line of a block: the command of ours, or "", its words, and what is set before it."""

    command: str
    words: list[str]
    environment: dict[str, str]


def blocks_of(page: str) -> Iterator[Block]:
    text = (REPOSITORY / page).read_text()
    for found in BLOCK.finditer(text):
        marked = found[0].startswith("<!--")
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[2], found[3], (found[1] or "") if marked else None)


def lines_of(block: Block) -> Iterator[str]:
    text = block.text.replace("\\\n", " ")
    for name, first in re.findall(r"^for (\w+) in (\S+)", text, re.MULTILINE):
        text = text.replace(f"${name}", first)  # a loop is its first round
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith(("#", *SHELL)):
            yield line


def call_of(line: str) -> Call:
    """A line's command, with what it leaves open filled in."""
    for word, filled in LEFT_OPEN.items():
        line = line.replace(word, filled)
    words, environment = [], {}
    for word in shlex.split(line, comments=True):
        several = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
        words += (
            [several[1] + one + several[3] for one in several[2].split(",")] if several else [word]
        )
    words = [STANDS_FOR.get(word, word) for word in words]
    while re.match(r"\w+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    for script in ("certify.py", "train.py"):
        if script in words:
            return Call(script[:-3], words[words.index(script) + 1 :], environment)
    if words[0] == "diffsmooth":
        return Call(words[1], words[2:], environment)
    return Call("", words, environment)


ALL = [block for page in PAGES for block in blocks_of(page)]
LINES = sorted({line for block in ALL if block.language == "sh" for line in lines_of(block)})


def test_every_mark_stands_before_a_block_and_tells_of_it() -> None:
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        marks = len(re.findall("^<!-- not run", text, re.MULTILINE))
        assert marks == sum(block.left_out is not None for block in ALL if block.page == page), page
    for block in ALL:
        assert block.language in LANGUAGES, block
        assert block.left_out is None or block.left_out in block.text, block


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python"], ids=lambda b: b.page)
def test_python_is_python(block: Block) -> None:
    compile(block.text, f"{block.page}:{block.line}", "exec")


class Parsed(Exception):
    """The words of a command are options that it knows."""


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition(" #")[0].rstrip())
def test_a_line_is_a_command_with_options_that_it_knows(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    command, words, environment = call_of(line)
    if "PYTHONPATH" in environment:
        monkeypatch.syspath_prepend(environment["PYTHONPATH"])
    if not command:
        check_other_program(words)
    elif command == "train":
        with pytest.raises(SystemExit) as stopped:
            import_module("diffsmooth.cli.train").main([*words, "--print_config"])
        assert stopped.value.code in (0, None), capsys.readouterr().err
    else:
        words = [word if word != "tuned.yaml" else "configs/certify/demo.yaml" for word in words]
        parse = OneLineParser.parse_args

        def parse_only(parser: OneLineParser, *args: Any, **kwargs: Any) -> None:
            parse(parser, *args, **kwargs)
            raise Parsed

        monkeypatch.setattr(OneLineParser, "parse_args", parse_only)
        with pytest.raises(Parsed):
            import_module(f"diffsmooth.cli.{command}").main(words, f"diffsmooth {command}")


def recipes_of(target: str) -> list[str]:
    """The lines of a target of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text()
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found, f"no target {target}"
    return found[1].split("\n\t")


def check_other_program(words: list[str]) -> None:
    """Names what there is; of programs of others nothing is known here."""
    program, *rest = words
    if program == "make":
        assert recipes_of(rest[0])
    elif program == "python":
        assert (REPOSITORY / next(word for word in rest if "/" in word)).exists()
    elif program == "cd":
        assert (REPOSITORY / rest[0]).is_dir()
    elif program.endswith(".sh"):
        assert os.access(REPOSITORY / program, os.X_OK)
    else:
        assert program in ("pip", "tensorboard")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages' commands find where they are run, and small data sets under known names."""
    for name in ("checkpoints", "configs", "diffsmooth"):
        os.symlink(REPOSITORY / name, tmp_path / name)
    shutil.copytree(REPOSITORY / "docs/studies", tmp_path / "docs/studies")
    sample = np.load(REPOSITORY / "diffsmooth/lit/data/fashion_mnist_sample.npz")
    images, labels = sample["images"][::10], sample["labels"][::10]
    write_pair(tmp_path / "data", images, labels)
    write_pair(tmp_path / "own", images, labels)
    write_pair(tmp_path / "colours", np.zeros((100, 32, 32, 3), np.uint8), labels)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_pair(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir()
    for split in ("train", "test"):
        np.savez(folder / f"{split}.npz", images=images, labels=labels)


def given_to_training() -> dict[str, object]:
    """What the Python of docs/training.md leaves open: a loader."""
    loader = torch.utils.data.DataLoader(
        [(torch.rand(3, 32, 32), 0), (torch.rand(3, 32, 32), 1)], 2
    )
    return {"loader": loader}


GIVEN: dict[str, Callable[[], dict[str, object]]] = {"docs/training.md": given_to_training}


def run_line(line: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, words, _ = call_of(line)
    if words[:1] == ["cd"]:
        monkeypatch.chdir(clone / words[1])
        return
    if words[:1] == ["make"]:  # without its environment
        for recipe in recipes_of(words[1]):
            run_line(recipe.replace("$(BIN)/", ""), clone, monkeypatch)
        return
    assert command, f"neither run nor marked: {line}"
    tiny = TINY.get(f"{command} {words[0]}" if command == "train" else command, "").split()
    for word, more in TINY_OF.items():
        tiny += more.split() if word in line else []
    try:
        import_module(f"diffsmooth.cli.{command}").main([*words, *tiny], f"diffsmooth {command}")
    except SystemExit as end:
        if end.code not in (0, None):  # 0 is --print_config's
            pytest.fail(f"exit code {end.code}: {line}")


RUN = [block for block in ALL if block.language in ("sh", "python") and block.left_out != ""]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_the_blocks_of_a_page_run_one_after_another(
    page: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plt.switch_backend("Agg")
    for block in (block for block in RUN if block.page == page):
        monkeypatch.chdir(clone)
        if block.language == "python":
            names = GIVEN.get(page, dict)()
            exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
            plt.close("all")
            assert "savefig" not in block.text or list(clone.glob("*.png"))
            continue
        for line in lines_of(block):
            if block.left_out is None or block.left_out not in line:
                run_line(line, clone, monkeypatch)
