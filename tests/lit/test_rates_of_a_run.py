"""The rate that each optimiser step of a real run has: epochs with a smaller last batch, too."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import StopAfter, make_trainer
from torch.utils.data import DataLoader, IterableDataset

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers|.*exists and is not empty"
)


class Rates(pl.Callback):
    """Notes the epoch and the rate of each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any
    ) -> None:
        self.seen.append((trainer.current_epoch, optimizer.param_groups[0]["lr"]))


# 128 training images in batches of 48: 48, 48 and 32.
@pytest.mark.parametrize(("accumulated", "steps"), [(1, 3), (2, 2)])
def test_rates_fall_at_the_first_step_of_a_milestone(
    accumulated: int, steps: int, tmp_path: Path, root: Path
) -> None:
    module = GaussianTraining(
        "cifar_resnet8",
        sigma=0.25,
        learning_rate=LearningRate("milestones", milestones=(1, 3)),
    )
    data = ImageDataModule("fashion_mnist", str(root), batch_size=48, validation_images=32)
    rates = Rates()
    trainer = make_trainer(
        tmp_path,
        5,
        callbacks=[rates],
        enable_checkpointing=False,
        limit_val_batches=0,
        accumulate_grad_batches=accumulated,
        log_every_n_steps=1,
    )
    trainer.fit(module, datamodule=data)
    # torch's own, stepped between epochs.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3])
    expected = []
    for epoch in range(5):
        expected += [(epoch, pytest.approx(optimizer.param_groups[0]["lr"]))] * steps
        optimizer.step()
        scheduler.step()
    assert rates.seen == expected


# 128 training images make 4 steps of 32, 8 of 16 and 2 of 64.
@pytest.mark.parametrize(("rows", "steps"), [(16, 8), (64, 2)])
@pytest.mark.parametrize("schedule", ["milestones", "cosine"])
def test_a_training_that_goes_on_with_another_batch_size_keeps_its_epochs(
    schedule: str, rows: int, steps: int, tmp_path: Path, root: Path
) -> None:
    rate = LearningRate("milestones", milestones=(2, 3)) if schedule == "milestones" else None

    def fit(rows: int, epochs: int, **resumed: Any) -> list[tuple[int, float]]:
        module = GaussianTraining(
            "cifar_resnet8", sigma=0.25, learning_rate=rate or LearningRate("cosine")
        )
        data = ImageDataModule("fashion_mnist", str(root), batch_size=rows, validation_images=32)
        rates, saving = Rates(), ModelCheckpoint(tmp_path / "out", save_last=True)
        trainer = make_trainer(
            tmp_path, 4, callbacks=[rates, saving, StopAfter(epochs)], limit_val_batches=0,
            log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, datamodule=data, **resumed)
        return rates.seen

    fit(32, 2)
    went_on = fit(rows, 4, ckpt_path=tmp_path / "out" / "last.ckpt")
    if schedule == "milestones":
        expected = [(2, pytest.approx(0.01))] * steps + [(3, pytest.approx(0.001))] * steps
    else:  # at a step's begin, of 4 epochs
        done = [2 + k / steps for k in range(2 * steps)]
        expected = [
            (int(e), pytest.approx(0.1 * (1 + math.cos(math.pi * e / 4)) / 2)) for e in done
        ]
    assert went_on == expected


def test_a_training_that_ends_by_its_steps_alone_has_epochs_too(tmp_path: Path, root: Path) -> None:
    """As published diffusion models are trained; Lightning then asks for no loader beforehand."""
    rate = LearningRate("milestones", milestones=(1,))
    module = GaussianTraining("cifar_resnet8", sigma=0.25, learning_rate=rate)
    data = ImageDataModule("fashion_mnist", str(root), batch_size=64, validation_images=32)
    rates = Rates()
    trainer = make_trainer(
        tmp_path, -1, max_steps=3, callbacks=[rates], enable_checkpointing=False,
        limit_val_batches=0, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert rates.seen == [(0, 0.1), (0, 0.1), (1, pytest.approx(0.01))]


class Endless(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """It has no length."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield torch.rand(1, 32, 32), torch.tensor(0)


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize(
    ("rate", "seen"),
    [
        (LearningRate("constant"), [0.1, 0.1, 0.1]),
        (LearningRate("cosine"), [0.1, 0.075, 0.025]),
        (LearningRate("step", step_epochs=1), None),
        (LearningRate("cosine", warmup_epochs=1), None),
    ],
)
def test_a_loader_that_does_not_tell_its_length(
    tmp_path: Path, rate: LearningRate, seen: list[float] | None
) -> None:
    module = GaussianTraining("cifar_resnet8", sigma=0.25, learning_rate=rate)
    rates = Rates()
    trainer = make_trainer(
        tmp_path, -1, max_steps=3, callbacks=[rates], enable_checkpointing=False,
        limit_val_batches=0, log_every_n_steps=1,
    )  # fmt: skip
    batches = DataLoader(Endless(), 4)
    if seen is None:
        with pytest.raises(UserError, match="does not tell how many batches an epoch has"):
            trainer.fit(module, batches)
    else:
        trainer.fit(module, batches)
        assert [value for _, value in rates.seen] == pytest.approx(seen)
