"""What a training prints: a line before, a line an epoch, its checkpoints; no tips."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stripes import write_stripes

from diffsmooth.cli import train


class Terminal(io.StringIO):
    """A standard error of 80 columns."""

    def isatty(self) -> bool:
        return True


def words(folder: Path) -> list[str]:
    return [
        "fit", "--model", "diffsmooth.lit.training.GaussianTraining", "--model.arch",
        "cifar_resnet8", "--model.sigma", "0.25", "--data.root", str(write_stripes(folder / "d")),
        "--data.validation_images", "32", "--data.batch_size", "16", "--trainer.accelerator", "cpu",
        "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1", "--name", "said",
        "--trainer.logger.save_dir", str(folder / "logs"),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_a_training_says_what_it_does_and_what_it_leaves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.main(words(tmp_path))
    out, err = capfd.readouterr()
    images, training, done, best, last = out.splitlines()
    assert images.startswith("images: ")
    logs = tmp_path / "logs" / "said"
    assert re.fullmatch(
        r"training: GaussianTraining, cifar_resnet8, sigma 0\.25, 77,754 parameters; 2 epochs of "
        rf"\d+ batches a process; 1 x cpu, 32-true; logs in {logs}/?",
        training,
    ), training
    assert re.fullmatch(r"done: \d+ steps", done)
    assert last == f"last: {logs}/checkpoints/last.ckpt"
    assert best.startswith(f"best: {logs}/checkpoints/best.ckpt, val/noisy_accuracy ")
    epochs = err.splitlines()
    assert len(epochs) == 2, err  # neither tips nor devices nor seeds
    for number, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf"epoch {number}/2: loss [\d.]+; val/loss [\d.]+; val/noisy_accuracy [\d.]+; "
            r"ETA [\d:]+",
            line,
        ), line
    assert epochs[-1].endswith("ETA 00:00")


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Trains at a terminal; what it draws, each time it draws it."""

    def call(*more: str) -> list[str]:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        train.main([*words(tmp_path), *more])
        return [line for line in re.split(r"[\r\n]", terminal.getvalue()) if line.strip()]

    return call


@pytest.mark.filterwarnings("ignore")
def test_a_terminal_of_80_columns_holds_the_bar(shown: Callable[..., list[str]]) -> None:
    lines = shown()
    bars = [line for line in lines if "images/s" in line]
    assert re.match(r"epoch 1/2 \|.*\| \d+/\d+ loss [\d.]+; noisy_accuracy [\d.]+; ", bars[0])
    # A terminal that does not tell its width gets ten columns of bar; a real one, what is left.
    assert max(len(line) for line in lines if line in bars) - 10 <= 78
    assert max(len(line) for line in lines if line not in bars) <= 80


@pytest.mark.filterwarnings("ignore")
def test_steps_and_rate_are_shown_between_the_metrics(
    shown: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffsmooth.lit.training.progress.SHOW_SECONDS", 0.0)
    lines = shown("--trainer.log_every_n_steps", "1000")
    bar = next(line for line in lines if "images/s" in line)
    assert re.match(r"epoch 1/2 \|.*\| 1/\d+ [\d,]+ images/s; ETA ", bar)
