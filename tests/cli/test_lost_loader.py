"""A process that loads images and is killed, as for want of memory, ends a training in a line."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from stripes import write_stripes

from diffsmooth.cli import train
from diffsmooth.lit.data.training_set import TrainingSet


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_loader_that_is_killed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = TrainingSet.__getitem__

    def get(self: Any, index: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, index)

    monkeypatch.setattr(TrainingSet, "__getitem__", get)
    monkeypatch.chdir(tmp_path)
    data = write_stripes(tmp_path / "data")
    with pytest.raises(SystemExit) as stopped:
        train.main([
            "fit", "--model", "diffsmooth.lit.training.GaussianTraining", "--model.sigma", "0.25",
            "--model.arch", "cifar_resnet8", "--data.root", str(data), "--data.workers", "1",
            "--data.validation_images", "32", "--trainer.accelerator", "cpu",
            "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false",
        ])  # fmt: skip
    assert stopped.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert line == (
        "train.py: error: a process that loads images was lost, for want of memory perhaps: fewer "
        "--data.workers may help; nothing is saved yet: the same command begins anew"
    )
