"""train.py on two processes: noise of each rank's own, equal weights, and kill -9."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stripes import write_stripes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffsmooth.cli import train
from diffsmooth.models.formats import read_checkpoint

REPOSITORY = Path(__file__).parents[2]


def train_on_two(folder: Path, data: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(exist_ok=True)
    saving = "lightning.pytorch.callbacks.ModelCheckpoint"
    words = [
        "fit", "--model", "diffsmooth.lit.training.SmoothAdvTraining",
        "--model.arch", "cifar_resnet8", "--model.sigma", "0.25", "--model.epsilon", "0.25",
        "--data.root", str(data), "--data.batch_size", "16", "--data.validation_images", "32",
        "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp",
        "--trainer.max_epochs", "2", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(folder),
        "--trainer.callbacks+", saving, "--trainer.callbacks.dirpath", str(folder),
        "--trainer.callbacks.save_last", "true",
        "--trainer.callbacks+", "witness.Witness", "--trainer.callbacks.folder", str(folder),
        *more,
    ]  # fmt: skip
    paths = [str(REPOSITORY), str(REPOSITORY / "tests" / "lit")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "train.py", *words],
        cwd=REPOSITORY,
        env=environment,
        start_new_session=True,  # a process group of its own, to be killed whole
        capture_output=True,
        text=True,
    )


@pytest.mark.filterwarnings("ignore")  # Lightning's and its command line's remarks
def test_the_options_the_revision_and_noisy_images_are_logged(tmp_path: Path) -> None:
    data = write_stripes(tmp_path / "data")
    config = "configs/train/fashion_mnist_consistency.yaml"
    train.main([
        "fit", "-c", str(REPOSITORY / config), "--data.root", str(data),
        "--model.init_args.arch", "cifar_resnet8", "--data.validation_images", "32",
        "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.precision", "32",
        "--trainer.logger.init_args.save_dir", str(tmp_path), "--trainer.log_every_n_steps", "1",
        "--trainer.enable_progress_bar", "false",
    ])  # fmt: skip
    (folder,) = tmp_path.glob("fashion_mnist_consistency*")
    said = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert said["model"]["init_args"]["weight"] == 5.0
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", said["git_revision"])
    events = EventAccumulator(str(folder)).Reload()
    assert "val/noisy" in events.Tags()["images"]
    assert {"train/loss", "val/noisy_accuracy"} <= set(events.Tags()["scalars"])
    assert read_checkpoint(next(folder.glob("checkpoints/last.ckpt"))).metadata.sigma == 0.5


def lines(folder: Path, rank: int, word: str) -> list[str]:
    said = (folder / f"rank{rank}.txt").read_text().splitlines()
    return [line for line in said if line.startswith(word)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_ranks_differ_in_noise_and_agree_in_weights_also_after_kill_9(tmp_path: Path) -> None:
    data = write_stripes(tmp_path / "data")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = train_on_two(whole, data)
    assert finished.returncode == 0, finished.stderr
    noise = [lines(whole, rank, "noise") for rank in (0, 1)]
    assert len(noise[0]) == len(noise[1]) == 8
    assert len({line.split()[2] for line in noise[0] + noise[1]}) == 16  # each its own
    assert lines(whole, 0, "weights") == lines(whole, 1, "weights")

    killed = train_on_two(broken, data, "--trainer.callbacks.kill_at", "6")
    assert killed.returncode == -9
    assert lines(broken, 0, "weights") == []
    resumed = train_on_two(broken, data, "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr
    for rank in (0, 1):
        assert lines(broken, rank, "weights") == lines(whole, rank, "weights")
        expected = lines(whole, rank, "loss")
        assert set(lines(broken, rank, "loss")) == set(expected)
        assert lines(broken, rank, "loss")[-4:] == expected[-4:]  # the second epoch, again
