"""Images a second of some trainings on this machine, by the loop that train.py runs."""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.training import DiffusionTraining, GaussianTraining, SmoothAdvTraining
from diffsmooth.lit.training.averaging import AverageWeights
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.pipeline.bench_findings import Finding, TrainingHeading, TrainingRate
from diffsmooth.pipeline.device import can_compile

WARM_UP = 4  # steps, in which memory is found and kernels are chosen
BATCHES = 8  # of the data set, random images of 3 x 32 x 32
CPU_BATCH = 16
# The U-Net of 7.3 million weights: that of configs/train/cifar10_h100_diffusion.yaml.
UNET: dict[str, Any] = {
    "model_channels": 64,
    "num_res_blocks": 2,
    "channel_mult": (1, 2, 2),
    "dropout": 0.0,
    "out_channels": 3,
}


class Training(NamedTuple):
    """What is trained: what makes it, of which options, and a GPU's batch."""

    make: Callable[..., TrainingModule]
    options: dict[str, Any]
    batch: int


TRAININGS = {
    "ResNet-20, Gaussian": Training(GaussianTraining, {"arch": "cifar_resnet20"}, 512),
    "ResNet-110, Gaussian": Training(GaussianTraining, {"arch": "cifar_resnet110"}, 512),
    "ResNet-110, SmoothAdv of 10 steps": Training(
        SmoothAdvTraining, {"arch": "cifar_resnet110", "epsilon": 0.25, "steps": 10}, 256
    ),
    "U-Net of 7.3 M, averaged": Training(
        DiffusionTraining, {"preset": "improved-cifar10", "overrides": UNET}, 256
    ),
}


class Clock(pl.Callback):
    """Times the steps behind the warm-up, until some seconds have passed.

    The device is waited for at both ends alone, as no step of a training does.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, 0
        self._begin = 0.0
        self.took = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *others: Any
    ) -> None:
        if trainer.global_step < WARM_UP:
            return
        if trainer.global_step == WARM_UP:
            self._begin = _now(pl_module.device)
        else:
            self.steps += 1
            if time.perf_counter() - self._begin >= self.seconds:
                self.took = _now(pl_module.device) - self._begin
                trainer.should_stop = True


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def training_rates(seconds: float, device: torch.device) -> Iterator[Finding]:
    """The rate of each training, measured for about so long, under a heading."""
    yield TrainingHeading()
    compiled = [False, True] if device.type == "cuda" and not can_compile(device) else [False]
    for name, training in TRAININGS.items():
        for how in compiled:
            yield measure_training(name, training, how, seconds, device)


def measure_training(
    name: str, training: Training, compiled: bool, seconds: float, device: torch.device
) -> TrainingRate:
    """The rate of one of them, its first steps left out."""
    batch = training.batch if device.type == "cuda" else CPU_BATCH
    bf16 = resolve_precision("auto", device.type) == "bf16"
    precision: Any = "bf16-mixed" if bf16 else "32-true"
    clock, quiet = Clock(seconds), logging.getLogger("lightning.pytorch")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = ImageDataModule(_write_images(Path(folder), batch), batch_size=batch,
                validation_images=1, drop_last=True)  # fmt: skip
            torch.manual_seed(0)
            module = training.make(**training.options, dataset="cifar10", compile=compiled)
            averaged = isinstance(module, DiffusionTraining)
            trainer = pl.Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu", devices=1,
                precision=precision, max_epochs=-1, limit_val_batches=0, logger=False,
                enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                default_root_dir=folder, gradient_clip_val=1.0 if averaged else None,
                callbacks=[clock, AverageWeights(0.999)] if averaged else [clock],
            )  # fmt: skip
            trainer.fit(module, datamodule=data)
    finally:
        quiet.setLevel(level)
    return TrainingRate(name, batch, precision, compiled, clock.steps * batch / clock.took)


def _write_images(folder: Path, batch: int) -> str:
    rng, count = np.random.default_rng(0), BATCHES * batch + 1
    path = folder / "random.npz"
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(count) % 10)
    return str(path)
