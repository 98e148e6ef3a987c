"""What only a GPU can tell of a training there: that no step waits for it, compiled or not; that
batches gathered there are the usual ones; that the average of weights lies there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import TINY_UNET
from gpu_device import ACCELERATOR, ON_CPU, device, needs_cuda
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import make_data

from diffsmooth.lit.data.loaders import make_loader
from diffsmooth.lit.data.on_device import ResidentLoader
from diffsmooth.lit.training import (
    AverageWeights,
    ConsistencyTraining,
    DiffusionTraining,
    GaussianTraining,
    MacerTraining,
    SmoothAdvTraining,
)
from diffsmooth.lit.training.divergence import StopDiverged
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.lit.training.progress import TrainingProgress
from diffsmooth.models import load_classifier, load_unet

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]

WARM_UP = 2  # steps: torch and Lightning make what they use for the rest


class WaitsAreErrors(pl.Callback):
    """Raises where a step, from its begin to its last callback, waits for the device."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, *args: Any) -> None:
        if args[-1] >= WARM_UP:
            waits("error")

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps += args[-1] >= WARM_UP
        waits("default")


def waits(mode: str) -> None:
    """What torch does where the processor waits for the device: a CPU never does."""
    if not ON_CPU:
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture(autouse=True)
def waits_are_allowed_again() -> Iterator[None]:
    yield
    waits("default")


def gaussian(**options: Any) -> TrainingModule:
    return GaussianTraining("cifar_resnet8", sigma=0.25, **options)


def consistency(**options: Any) -> TrainingModule:
    return ConsistencyTraining(arch="cifar_resnet8", sigma=0.25, epsilon=0.25, steps=2, **options)


def smoothadv(**options: Any) -> TrainingModule:
    return SmoothAdvTraining(arch="cifar_resnet8", sigma=0.25, m_train=2, **options)


def macer(**options: Any) -> TrainingModule:
    return MacerTraining(arch="cifar_resnet8", sigma=0.25, k=2, **options)


def diffusion(**options: Any) -> TrainingModule:
    return DiffusionTraining(overrides=dict(TINY_UNET), psnr_sigmas=(0.5,), **options)


def fit(
    module: TrainingModule, folder: Path, root: Path, *more: pl.Callback, **options: Any
) -> pl.Trainer:
    saving = ModelCheckpoint(folder, save_last=True)
    trainer = pl.Trainer(
        accelerator=ACCELERATOR, devices=1, max_epochs=2, logger=False, num_sanity_val_steps=0,
        enable_model_summary=False, default_root_dir=folder,
        callbacks=[StopDiverged(), AverageWeights(0.9), saving, *more],
        **{"precision": "32-true" if ON_CPU else "bf16-mixed", **options},
    )  # fmt: skip
    data = make_data(root)
    data.on_device = data.on_device or ON_CPU  # on a GPU by itself
    data.drop_last = True  # one shape to compile
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.parametrize("make", [gaussian, consistency, smoothadv, macer, diffusion])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_cuda)])
def test_no_step_waits_for_the_device(
    make: Callable[..., TrainingModule], compiled: bool, tmp_path: Path, root: Path
) -> None:
    watch, module = WaitsAreErrors(), make(compile=compiled)
    trainer = fit(module, tmp_path, root, watch, gradient_clip_val=1.0)
    assert watch.steps == 2 * (4 - WARM_UP)
    assert isinstance(trainer.train_dataloader, ResidentLoader)
    load: Callable[[Path], Any] = load_unet if make is diffusion else load_classifier
    for value in load(tmp_path / "last.ckpt").state_dict().values():
        assert value.isfinite().all()


def test_our_bar_waits_for_nothing_where_the_trainer_does_not_log(
    tmp_path: Path, root: Path
) -> None:
    watch = WaitsAreErrors()
    fit(gaussian(), tmp_path, root, watch, TrainingProgress())
    assert watch.steps == 2 * (4 - WARM_UP)


@needs_cuda
def test_compiled_losses_are_those_without_but_for_rounding(tmp_path: Path, root: Path) -> None:
    class Losses(pl.Callback):
        def __init__(self) -> None:
            self.each: list[torch.Tensor] = []

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            self.each.append(outputs["loss"].cpu())

    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        losses = Losses()
        module = gaussian(compile=compiled)
        fit(module, tmp_path / str(compiled), root, losses, precision="32-true")
        found.append(torch.stack(losses.each))
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.02)


def test_batches_gathered_there_are_the_usual_ones_to_the_bit(root: Path, tmp_path: Path) -> None:
    trainer = fit(gaussian(), tmp_path, root)
    loader = trainer.train_dataloader
    assert isinstance(loader, ResidentLoader)
    data = trainer.datamodule  # type: ignore[attr-defined]
    usual = make_loader(data.train, loader.rows, loader.sampler, 0, pinned=False)
    data.trainer = None  # an epoch from its begin
    count = 0
    for theirs, ours in zip(usual, loader, strict=True):
        count += 1
        for one, other in zip(theirs, ours, strict=True):
            assert other.device.type == device().type
            assert torch.equal(one, other.cpu())
    assert count == 4


def test_the_average_lies_where_the_module_lies(root: Path, tmp_path: Path) -> None:
    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            (average,) = [
                callback
                for callback in trainer.callbacks  # type: ignore[attr-defined]
                if isinstance(callback, AverageWeights)
            ]
            assert average._average_model is not None
            assert {p.device.type for p in average._average_model.parameters()} == {device().type}

    fit(diffusion(), tmp_path, root, Look())
