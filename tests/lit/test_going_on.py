"""Trainings that are broken off, by a crash or a limit, and go on as if they had not been."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.lit.training.averaging import AverageWeights
from diffsmooth.lit.training.checkpoint_files import default_checkpoints
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.models.checkpoints.formats import read_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
    "ignore:.*ended before the epoch ended",
    "ignore:The dirpath has changed",
)
BATCHES = 5  # an epoch


class Broken(Exception):
    """A crash."""


class Steps(pl.Callback):
    """Notes epoch, step, learning rate and images; breaks off, or stops as a time limit does."""

    def __init__(self, crash_at: int | None = None, stop_at: int | None = None) -> None:
        self.crash_at, self.stop_at = crash_at, stop_at
        self.noted: list[tuple[Any, ...]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.crash_at:
            raise Broken
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        images = tuple(batch.original_index.tolist())
        self.noted.append((trainer.current_epoch, trainer.global_step, rate, images))

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: object
    ) -> None:
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng, labels = np.random.default_rng(0), np.arange(48) % 2
    images = 60 * labels[:, None, None] + rng.integers(0, 120, (48, 8, 8))
    np.savez(tmp_path / "d.npz", images=images.astype(np.uint8), labels=labels)
    return str(tmp_path / "d.npz")


def fit(
    data: str,
    folder: Path,
    steps: Steps | None = None,
    more: Sequence[pl.Callback] = (),
    ckpt_path: Path | None = None,
    **limits: Any,
) -> tuple[GaussianTraining, Steps]:
    torch.manual_seed(0)
    rate = LearningRate("step", step_epochs=2, gamma=0.5)
    module = GaussianTraining(
        "cifar_resnet8", data, input_layer="none", crop_padding=0, learning_rate=rate
    )
    steps = steps or Steps()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        callbacks=[steps, *(more or default_checkpoints(module.measured, True))], **limits,
    )  # fmt: skip
    images = ImageDataModule(data, batch_size=8, validation_images=8)
    with suppress(Broken):
        trainer.fit(module, datamodule=images, ckpt_path=ckpt_path)
    return module, steps


@pytest.mark.parametrize("broken", [Steps(crash_at=17), Steps(stop_at=12), Steps(stop_at=15)])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 6},
        {"max_epochs": -1, "max_steps": 30},
        {"max_epochs": 6, "max_steps": 30},
        {"max_epochs": 6, "check_val_every_n_epoch": 2},
        {"max_epochs": -1, "max_steps": 30, "check_val_every_n_epoch": 2},
    ],
)
def test_what_is_broken_off_goes_on_where_it_was(
    data: str, tmp_path: Path, broken: Steps, limits: dict[str, int]
) -> None:
    whole, all_steps = fit(data, tmp_path / "whole", **limits)
    fit(data, tmp_path / "parts", Steps(broken.crash_at, broken.stop_at), **limits)
    last = tmp_path / "parts/checkpoints/last.ckpt"
    saved = torch.load(last, weights_only=True)["global_step"]
    if broken.stop_at:
        assert saved == broken.stop_at  # it has all that was trained
    resumed, rest = fit(data, tmp_path / "parts", ckpt_path=last, **limits)
    assert rest.noted == all_steps.noted[saved:]
    assert len(all_steps.noted) == 30
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("steps", [12, 15])
def test_a_checkpoint_that_is_saved_once_fit_has_returned_goes_on_where_it_was(
    data: str, tmp_path: Path, steps: int
) -> None:
    whole, all_steps = fit(data, tmp_path / "whole", max_epochs=-1, max_steps=30)
    begun, _ = fit(data, tmp_path / "parts", max_epochs=-1, max_steps=steps)
    begun.trainer.save_checkpoint(tmp_path / "mine.ckpt")
    resumed, rest = fit(
        data, tmp_path / "parts", ckpt_path=tmp_path / "mine.ckpt", max_epochs=-1, max_steps=30
    )
    assert rest.noted == all_steps.noted[steps:]
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_one_that_goes_on_twice_from_an_epochs_last_batch_keeps_its_epochs(
    data: str, tmp_path: Path
) -> None:
    def saving() -> list[ModelCheckpoint]:
        return [ModelCheckpoint(every_n_train_steps=1, save_top_k=-1, filename="{step}")]

    whole, all_steps = fit(data, tmp_path / "whole", more=saving(), max_epochs=4)
    kept = tmp_path / "whole/checkpoints"
    again, rest = tmp_path / "again", Steps(crash_at=7)
    fit(data, again, rest, saving(), kept / "step=5.ckpt", max_epochs=4)
    assert rest.noted == all_steps.noted[5:7]
    resumed, rest = fit(
        data, tmp_path / "third", None, saving(), again / "checkpoints/step=7.ckpt", max_epochs=4
    )
    assert rest.noted == all_steps.noted[7:]
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("crash_at", [4, 7])
def test_one_within_an_accumulated_step_has_its_gradients(
    data: str, tmp_path: Path, crash_at: int
) -> None:
    limits = {"max_epochs": 4, "accumulate_grad_batches": 2, "val_check_interval": 3}
    whole, all_steps = fit(data, tmp_path / "whole", **limits)
    fit(data, tmp_path / "parts", Steps(crash_at=crash_at), **limits)
    last = tmp_path / "parts/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["accumulated_gradients"]
    resumed, rest = fit(data, tmp_path / "parts", ckpt_path=last, **limits)
    assert rest.noted == all_steps.noted[-len(rest.noted) :]
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("every", [1, 2, 9])
def test_the_last_checkpoint_is_of_the_last_step(data: str, tmp_path: Path, every: int) -> None:
    """Also between validations, and with the trained weights beside their average."""
    averaging = AverageWeights(decay=0.5)
    last = default_checkpoints((), validated=False)
    module, _ = fit(
        data, tmp_path, more=[averaging, *last], max_epochs=5, check_val_every_n_epoch=every
    )
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 5 * BATCHES
    # After the training the module holds the average.
    name = "classifier.1.conv1.weight"
    assert torch.equal(saved["state_dict"][name], module.state_dict()[name])
    assert not torch.equal(saved["current_model_state"][name], module.state_dict()[name])


def test_a_checkpoint_of_weights_alone_has_the_average(data: str, tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="w", save_weights_only=True)
    module, _ = fit(data, tmp_path, more=[AverageWeights(decay=0.5), saving], max_epochs=2)
    saved = read_checkpoint(tmp_path / "w.ckpt")
    assert saved.note == ""
    for name, value in saved.state_dict.items():
        assert torch.equal(value, module.classifier.state_dict()[name]), name
