from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from stripes import StopAfter, make_data, make_trainer
from torch import nn

from diffsmooth.lit.training import AverageWeights, DiffusionTraining, GaussianTraining
from diffsmooth.lit.training.averaging import Average
from diffsmooth.lit.training.module import TrainingModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


def make_diffusion() -> DiffusionTraining:
    torch.manual_seed(0)
    return DiffusionTraining(
        overrides=dict(TINY_UNET),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        psnr_sigmas=(),
    )


def make_classifier() -> GaussianTraining:  # it has buffers: batch norms' statistics
    torch.manual_seed(0)
    return GaussianTraining("cifar_resnet8")


def fit(
    make: Callable[[], TrainingModule],
    average: pl.Callback,
    folder: Path,
    root: Path,
    *more: pl.Callback,
    path: Path | None = None,
) -> TrainingModule:
    module = make()
    callbacks = [average, ModelCheckpoint(folder, save_last=True), *more]
    trainer = make_trainer(
        folder, 2, callbacks=callbacks, limit_val_batches=1, limit_train_batches=3
    )
    trainer.fit(module, datamodule=make_data(root), ckpt_path=path)
    return module


@pytest.mark.parametrize("make", [make_diffusion, make_classifier])
def test_the_average_is_lightnings_to_the_bit_and_so_are_its_checkpoints(
    make: Callable[[], TrainingModule], tmp_path: Path, root: Path
) -> None:
    theirs = fit(make, EMAWeightAveraging(decay=0.7, use_buffers=False), tmp_path / "theirs", root)
    ours = fit(make, AverageWeights(decay=0.7), tmp_path / "ours", root)
    same(theirs.state_dict(), ours.state_dict())
    files = [torch.load(tmp_path / who / "last.ckpt") for who in ("theirs", "ours")]
    assert files[0].keys() == files[1].keys()
    for key in ("state_dict", "current_model_state", "averaging_state"):
        same(files[0][key], files[1][key])
    assert (
        files[0]["callbacks"]["EMAWeightAveraging"] == files[1]["callbacks"]["EMAWeightAveraging"]
    )


def test_a_training_that_began_with_lightnings_average_goes_on_with_this_one(
    tmp_path: Path, root: Path
) -> None:
    whole = fit(make_diffusion, AverageWeights(decay=0.7), tmp_path / "whole", root)
    theirs = EMAWeightAveraging(decay=0.7, use_buffers=False)
    fit(make_diffusion, theirs, tmp_path / "parts", root, StopAfter(1))
    path = tmp_path / "parts" / "last.ckpt"
    ours = fit(make_diffusion, AverageWeights(decay=0.7), tmp_path / "parts", root, path=path)
    same(whole.state_dict(), ours.state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_every_third_step_the_average_keeps_the_decay_of_three() -> None:
    """By hand: weights 1, 2, 3 .. at steps 1, 2, 3 ..; the first one begins the average."""
    callback, number = AverageWeights(decay=0.5, every_n_steps=3), nn.Linear(1, 1, bias=False)
    average = Average(number, callback.decay**callback.every_n_steps)
    for step in range(1, 8):
        with torch.no_grad():
            number.weight.fill_(step)
        if callback.should_update(step_idx=step - 1):
            average.update_parameters(number)
    # 1, then at step 4: 1/8 of 1 and 7/8 of 4; at step 7: 1/8 of that and 7/8 of 7.
    assert next(average.module.parameters()).item() == (1 / 8 + 7 / 8 * 4) / 8 + 7 / 8 * 7
    assert average.n_averaged == 3


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 1\.5"):
        AverageWeights(decay=1.5)
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, got 0"):
        AverageWeights(every_n_steps=0)
