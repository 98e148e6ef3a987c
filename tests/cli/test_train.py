"""train.py on two processes: noise, weights, measured numbers, kill -9, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from stripes import write_stripes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffsmooth.cli import train
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.models.checkpoints.formats import read_checkpoint

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
    return run_train(*words)


def run_train(*words: str) -> "subprocess.CompletedProcess[str]":
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


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_told_without_asking_the_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning's log_dir is a broadcast: a process that has failed alone would wait for ever."""

    def full(module: pl.LightningModule, *_: object) -> None:
        monkeypatch.setattr(pl.Trainer, "log_dir", property(lambda trainer: pytest.fail("asks")))
        raise OSError(28, "No space left on device")  # as a write says it: without a name

    monkeypatch.setattr(GaussianTraining, "training_step", full)
    with pytest.raises(SystemExit) as stopped:
        train.main([
            "fit", "--model", "diffsmooth.lit.training.GaussianTraining", "--model.arch",
            "cifar_resnet8", "--data.root", str(write_stripes(tmp_path / "data")),
            "--data.validation_images", "32", "--trainer.accelerator", "cpu",
            "--trainer.max_epochs", "1", "--trainer.logger", "TensorBoardLogger",
            "--trainer.logger.save_dir", str(tmp_path / "logs"),
            "--trainer.enable_progress_bar", "false",
        ])  # fmt: skip
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{tmp_path / 'logs'}" in line
    assert line.endswith(": No space left on device")


def lines(folder: Path, rank: int, word: str) -> list[str]:
    said = (folder / f"rank{rank}.txt").read_text().splitlines()
    return [line for line in said if line.startswith(word)]


@pytest.mark.slow
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


def measured(out: str) -> dict[str, str]:
    """What Lightning's table of a split's results says, as it says it."""
    return dict(re.findall(r"((?:val|test)/\w+)\s+\S?\s+(\d\S*)", out))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_devices_measure_what_one_does_to_the_last_digit(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    rng = np.random.default_rng(0)
    for split, n in (("train", 400), ("test", 131)):  # two batches of 128, and three images
        labels = np.arange(n) % 4
        images = rng.integers(0, 256, (n, 28, 28), np.uint8) // 2
        images[np.arange(n), 7 * labels] = 255
        np.savez(data / f"{split}.npz", images=images, labels=labels)
    more = ["--data.validation_images", "300", "--trainer.precision", "bf16-mixed",
            "--trainer.callbacks+", "lightning.pytorch.callbacks.ModelCheckpoint",
            "--trainer.callbacks.dirpath", str(folder), "--trainer.callbacks.filename", "best",
            "--trainer.callbacks.monitor", "val/loss", "--trainer.max_epochs", "1"]  # fmt: skip
    trained = train_on_two(folder, data, *more)
    assert trained.returncode == 0, trained.stderr
    best = folder / "best.ckpt"
    states = torch.load(best, weights_only=True)["callbacks"]
    (score,) = (s["best_model_score"] for s in states.values() if s.get("best_model_score"))
    words = [
        "--model", "diffsmooth.lit.training.GaussianTraining", "--model.arch", "cifar_resnet8",
        "--data.root", str(data), "--data.validation_images", "300", "--ckpt_path", str(best),
        "--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.precision",
        "bf16-mixed", "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    one, two = (run_train("test", *words, "--trainer.devices", n) for n in ("1", "2"))
    assert set(measured(one.stdout)) == {"test/loss", "test/noisy_accuracy"}
    assert measured(one.stdout) == measured(two.stdout)
    alone = run_train("validate", *words, "--trainer.devices", "1", "--data.batch_size", "7")
    assert np.float32(measured(alone.stdout)["val/loss"]) == np.float32(score)
