"""Training of diffusion models, its pictures, and what happens when a training diverges."""

import copy
import functools
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.training import DiffusionTraining, GaussianTraining
from diffsmooth.lit.training.divergence import StopDiverged, TrainingDiverged
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.lit.training.pictures import LogPictures
from diffsmooth.models import load_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.diffusion.loss import LossTerms

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


@pytest.fixture
def root(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Random images under fashion_mnist's name."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        images = rng.integers(0, 256, (32, 28, 28), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(32) % 10)
    return folder


def fit(module: TrainingModule, root: Path, epochs: int, **kwargs: Any) -> pl.Trainer:
    """Trains for two batches of four an epoch; `ckpt_path` goes to fit, the rest to the trainer."""
    ckpt_path = kwargs.pop("ckpt_path", None)
    settings: dict[str, Any] = {"logger": False, "limit_train_batches": 2, **kwargs}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=root.parent,
        **settings,
    )
    data = ImageDataModule("fashion_mnist", str(root), batch_size=4, validation_images=4)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def make_diffusion(**kwargs: Any) -> DiffusionTraining:
    torch.manual_seed(0)
    overrides = {**TINY_UNET, **kwargs.pop("overrides", {})}
    optimizer = kwargs.pop("optimizer", lambda p: torch.optim.Adam(p, lr=2e-3))
    return DiffusionTraining(
        overrides=overrides, optimizer=optimizer, psnr_sigmas=(0.5,), sample_steps=2, **kwargs
    )


def weights_of(module: TrainingModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_the_hybrid_loss_trains_the_variance_too(tmp_path: Path, root: Path) -> None:
    module = make_diffusion(loss="hybrid", overrides={"out_channels": 2})
    untrained = module.unet.out[2].weight.detach().clone()  # type: ignore[union-attr, operator]
    trainer = fit(module, root, 2)
    trained = module.unet.out[2].weight.detach()  # type: ignore[union-attr, operator]
    assert ((trained - untrained).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    metrics = trainer.callback_metrics
    total = metrics["val/loss_simple"] + 4 * metrics["val/loss_vlb"]
    torch.testing.assert_close(metrics["val/loss"], total)


def test_the_hybrid_loss_needs_the_channels_for_it() -> None:
    with pytest.raises(ValueError, match="out_channels must be 2, twice the in_channels, got 1"):
        DiffusionTraining(loss="hybrid")
    with pytest.raises(ValueError, match="unknown loss 'vlb': known are simple, hybrid"):
        DiffusionTraining(loss="vlb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        DiffusionTraining(sample_steps=0)


def test_pictures_are_logged_and_leave_the_training_alone(
    tmp_path: Path,
    root: Path,
) -> None:
    loggers = {
        "none": False,
        "csv": CSVLogger(tmp_path, "csv", ""),
        "tensorboard": TensorBoardLogger(tmp_path, "tensorboard", "", default_hp_metric=False),
    }
    weights = []
    for logger in loggers.values():
        module = make_diffusion(max_sigma=None)
        average = EMAWeightAveraging(decay=0.5, use_buffers=False)
        fit(
            module,
            root,
            2,
            logger=logger,
            callbacks=[average, LogPictures()],
            enable_checkpointing=False,
        )
        weights.append(weights_of(module))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    for tag, columns, rows in (("val/denoised", 4, 3), ("val/samples", 8, 2)):
        images = events.Images(tag)
        assert [image.step for image in images] == [2, 4]
        assert (images[0].width, images[0].height) == (columns * 34 + 2, rows * 34 + 2)


def test_a_restricted_network_shows_no_samples(tmp_path: Path, root: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "t", "", default_hp_metric=False)
    callbacks = [LogPictures()]
    fit(make_diffusion(), root, 1, logger=logger, callbacks=callbacks, enable_checkpointing=False)
    events = EventAccumulator(str(tmp_path / "t")).Reload()
    assert events.Tags()["images"] == ["val/denoised"]


def test_dropout_is_at_work_and_a_resumed_run_equals_an_unbroken_one(
    tmp_path: Path,
    root: Path,
) -> None:
    def train(folder: str, epochs: int, dropout: float = 0.3, **kwargs: Any) -> Tensor:
        module = make_diffusion(overrides={"dropout": dropout})
        fit(
            module,
            root,
            epochs,
            callbacks=[ModelCheckpoint(tmp_path / folder, save_last=True)],
            **kwargs,
        )
        return weights_of(module)

    whole = train("whole", 2)
    assert not torch.equal(whole, train("without", 2, dropout=0.0))
    train("parts", 1)
    resumed = train("parts", 2, ckpt_path=tmp_path / "parts" / "last.ckpt")
    assert torch.equal(whole, resumed)

    unet = load_unet(tmp_path / "whole" / "last.ckpt")
    assert unet.config.dropout == 0.3
    x, times = torch.randn(2, 1, 32, 32), torch.tensor([100.0])
    assert torch.equal(unet(x, times), unet(x, times))  # in eval mode it is at rest


class _Diverging(DiffusionTraining):
    """Its loss is not a number from a step on."""

    step = 3

    def _losses(self, images: Tensor, generator: torch.Generator) -> LossTerms:
        terms = super()._losses(images, generator)
        if self.trainer.training and self.global_step >= self.step:
            terms = terms._replace(total=terms.total * torch.nan)
        return terms


class _ExplodingGradient(pl.Callback):
    """Spoils the weights though the loss is finite."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.global_step == 3:
            next(pl_module.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("every", "options"),
    [
        ("epoch", {}),
        ("step", {}),
        ("step", {"save_weights_only": True, "save_on_exception": True}),
    ],
)
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("cause", ["loss", "gradient"])
def test_a_diverged_training_stops_and_keeps_the_last_good_checkpoint(
    every: str,
    options: dict[str, bool],
    average: bool,
    cause: str,
    tmp_path: Path,
    root: Path,
) -> None:
    torch.manual_seed(0)
    kind = _Diverging if cause == "loss" else DiffusionTraining
    module = kind(overrides=dict(TINY_UNET), psnr_sigmas=())
    callbacks: list[pl.Callback] = [
        StopDiverged(),
        ModelCheckpoint(
            tmp_path / "out",
            save_last=True,
            every_n_epochs=1 if every == "epoch" else None,
            every_n_train_steps=1 if every == "step" else None,
            **options,  # type: ignore[arg-type]
        ),
    ]
    if average:
        callbacks.insert(0, EMAWeightAveraging(decay=0.5, use_buffers=False))
    if cause == "gradient":
        callbacks.append(_ExplodingGradient())
    with pytest.raises(TrainingDiverged, match="diverged by step 4"):
        fit(module, root, 3, callbacks=callbacks)
    content = torch.load(tmp_path / "out" / "last.ckpt", weights_only=False)
    assert content["global_step"] == (2 if every == "epoch" else 3)
    checkpoint = read_checkpoint(tmp_path / "out" / "last.ckpt")
    assert all(value.isfinite().all() for value in checkpoint.state_dict.values())


def test_without_checkpoints_divergence_is_seen_at_a_logging_step(
    tmp_path: Path,
    root: Path,
) -> None:
    module = GaussianTraining("cifar_resnet8")
    module.hparams.sigma = torch.inf  # no one may ask for it
    with pytest.raises(TrainingDiverged, match="by step 2: the loss or the weights are no longer"):
        fit(
            module, root, 2, limit_train_batches=5, enable_checkpointing=False,
            log_every_n_steps=2, callbacks=[StopDiverged()],
        )  # fmt: skip


def test_a_module_is_copied_without_what_its_optimizer_refers_to() -> None:
    """As the averaging of weights does, with an optimiser from the command line."""
    lock = threading.Lock()  # cannot be copied
    module = make_diffusion(optimizer=lambda p, lock=lock: torch.optim.Adam(p))
    module._optimizer.make = functools.partial(module._optimizer.make, lock=lock)
    copied = copy.deepcopy(module)
    assert torch.equal(weights_of(copied), weights_of(module))
    assert copied._purifiers[0].denoiser.unet is copied.unet


def test_the_weight_of_an_image_counts_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_diffusion(flip=False)
    monkeypatch.setattr(module, "generator", lambda: torch.Generator().manual_seed(0))
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    images, numbers = torch.rand(2, 1, 8, 8), torch.arange(2)

    def loss(*weights: float) -> Tensor:
        return module.training_step(Batch(images, numbers, numbers, torch.tensor(weights)), 0)

    first, second = loss(2.0, 0.0), loss(0.0, 2.0)  # each image's own: the mean is over two
    assert not torch.isclose(first, second)
    assert loss(1.0, 1.0).item() == pytest.approx((first + second).item() / 2)
    assert loss(1.0, 0.5).item() == pytest.approx((first / 2 + second / 4).item())
