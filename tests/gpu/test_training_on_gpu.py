"""A few steps of each way to train: losses are numbers, and the checkpoint is read on a CPU."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from gpu_device import ACCELERATOR, ON_CPU
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from stripes import make_data
from test_methods import METHODS, make
from torch import Tensor

from diffsmooth.lit.training import DiffusionTraining
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models import load_classifier, load_unet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore"),  # of Lightning, about small trainings
]
EPOCHS = 2 if ON_CPU else 6
PRECISIONS = ["32-true"] if ON_CPU else ["32-true", "bf16-mixed"]


class Losses(pl.Callback):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.each: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *others: Any
    ) -> None:
        self.each.append(float(outputs["loss"]))


def fit(
    module: TrainingModule, folder: Path, root: Path, precision: Any, *more: pl.Callback
) -> Any:
    losses = Losses()
    trainer = pl.Trainer(
        accelerator=ACCELERATOR, devices=1, max_epochs=EPOCHS, precision=precision, logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, callbacks=[losses, ModelCheckpoint(folder, save_last=True), *more],
    )  # fmt: skip
    trainer.fit(module, datamodule=make_data(root))
    steps = torch.tensor(losses.each)
    assert steps.isfinite().all()
    assert len(steps) >= 4 * EPOCHS
    return steps


def fell(steps: Tensor) -> bool:
    """Whether the last epoch's mean is below the first's."""
    epochs = steps.view(EPOCHS, -1).mean(dim=1)
    return bool(epochs[-1] < epochs[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains(method: str, precision: str, tmp_path: Path, root: Path) -> None:
    module = make(method)
    steps = fit(module, tmp_path / "out", root, precision)
    assert fell(steps) or method != "gaussian"
    loaded = load_classifier(tmp_path / "out" / "last.ckpt")
    for one, other in zip(
        loaded.state_dict().values(), module.classifier.state_dict().values(), strict=True
    ):
        assert one.device.type == "cpu"
        assert torch.equal(one, other.cpu())
    assert loaded(torch.zeros(2, 1, 32, 32)).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_denoiser_trains(precision: str, tmp_path: Path, root: Path) -> None:
    torch.manual_seed(0)
    module = DiffusionTraining(
        overrides={"channel_mult": (1, 1), "attention_resolutions": (16,)},
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        psnr_sigmas=(0.5,),
    )
    average = EMAWeightAveraging(decay=0.5, use_buffers=False)
    assert fell(fit(module, tmp_path / "out", root, precision, average))
    loaded = load_unet(tmp_path / "out" / "last.ckpt")
    for key, value in module.unet.state_dict().items():  # training ends on the average
        torch.testing.assert_close(loaded.state_dict()[key], value.cpu())
