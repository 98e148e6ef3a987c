from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from stripes import StopAfter, make_data, make_trainer
from torch import Tensor, nn

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.training import DiffusionTraining, GaussianTraining
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.randomness import random_crop, random_flip, step_generator
from diffsmooth.models import load_classifier, load_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.stats.errors import UserError


def make_classifier() -> GaussianTraining:
    torch.manual_seed(0)
    return GaussianTraining(
        "cifar_resnet8",
        sigma=0.25,
        flip=False,
        crop_padding=0,
        learning_rate=LearningRate("cosine"),
    )


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


def test_gaussian_training_learns_and_its_checkpoint_is_read(tmp_path: Path, root: Path) -> None:
    module = make_classifier()
    trainer = make_trainer(
        tmp_path, 6, callbacks=[ModelCheckpoint(tmp_path / "out", save_last=True)]
    )
    trainer.fit(module, datamodule=make_data(root))
    assert trainer.callback_metrics["val/noisy_accuracy"] > 0.9
    metrics = trainer.test(module, datamodule=make_data(root), verbose=False)[0]
    assert metrics["test/noisy_accuracy"] > 0.9
    checkpoint = read_checkpoint(tmp_path / "out" / "last.ckpt")
    assert checkpoint.metadata.sigma == 0.25
    assert checkpoint.metadata.class_names[9] == "Ankle boot"
    loaded = load_classifier(tmp_path / "out" / "last.ckpt")
    for key, value in module.classifier.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_training_on_ones_own_data(tmp_path: Path, root: Path) -> None:
    module = GaussianTraining(
        "cifar_resnet8", str(root), sigma=0.1, input_layer="none", crop_padding=0, flip=False
    )
    data = ImageDataModule(str(root), batch_size=32, validation_images=32)
    trainer = make_trainer(
        tmp_path, 1, callbacks=[ModelCheckpoint(tmp_path / "out", save_last=True)]
    )
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    metadata = read_checkpoint(tmp_path / "out" / "last.ckpt").metadata
    assert (metadata.dataset, metadata.image_shape) == ("data", [1, 28, 28])
    assert metadata.class_names == ["0", "1", "2", "3"]
    assert load_classifier(tmp_path / "out" / "last.ckpt")(torch.zeros(2, 1, 28, 28)).shape == (
        2,
        4,
    )
    with pytest.raises(DataError, match="has no test images of its own"):
        trainer.test(module, datamodule=ImageDataModule(str(root / "train.npz"), batch_size=32))


class Tupled(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x.flatten(1)[:, :10],)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 7)), r"gives \(1, 7\) .* 10 classes"),
        (Tupled(), "gives a tuple .* logits"),
        (nn.Conv2d(1, 10, 3), r"gives \(1, 10, 30, 30\) .* logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)), "cannot take images of 1 x 32 x 32"),
    ],
)
def test_a_network_that_does_not_give_the_classes_logits_is_not_trained(
    tmp_path: Path, root: Path, network: nn.Module, said: str
) -> None:
    module = GaussianTraining(network, input_layer="none", crop_padding=0)
    with pytest.raises(UserError, match=said):
        make_trainer(tmp_path, 1).fit(module, datamodule=make_data(root))


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, root: Path) -> None:
    def callbacks(folder: Path) -> list[pl.Callback]:
        return [ModelCheckpoint(folder, save_last=True)]

    whole = make_classifier()
    make_trainer(tmp_path, 3, callbacks=callbacks(tmp_path / "whole")).fit(
        whole, datamodule=make_data(root)
    )
    broken = make_classifier()
    trainer = make_trainer(tmp_path, 3, callbacks=[*callbacks(tmp_path / "parts"), StopAfter(2)])
    trainer.fit(broken, datamodule=make_data(root))
    resumed = make_classifier()
    make_trainer(tmp_path, 3, callbacks=callbacks(tmp_path / "parts")).fit(
        resumed, datamodule=make_data(root), ckpt_path=tmp_path / "parts" / "last.ckpt"
    )
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    assert not torch.equal(whole.classifier[1].fc.weight, broken.classifier[1].fc.weight)


@pytest.mark.slow
def test_diffusion_training_lowers_the_loss_and_keeps_the_average(
    tmp_path: Path, root: Path
) -> None:
    torch.manual_seed(0)
    module = DiffusionTraining(
        overrides=dict(TINY_UNET),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        psnr_sigmas=(0.5,),
    )
    average = EMAWeightAveraging(decay=0.5, use_buffers=False)
    trainer = make_trainer(
        tmp_path, 4, callbacks=[average, ModelCheckpoint(tmp_path / "out", save_last=True)]
    )
    trainer.fit(module, datamodule=make_data(root))
    # Predicting no noise at all costs 1; the noisy image's PSNR at sigma 0.5 is 6.0 dB.
    assert trainer.callback_metrics["val/loss"] < 0.8
    assert trainer.callback_metrics["val/psnr_sigma_0.5"] > 6.5
    loaded = load_unet(tmp_path / "out" / "last.ckpt")
    for key, value in module.unet.state_dict().items():  # training ends on the average
        torch.testing.assert_close(loaded.state_dict()[key], value)


def test_out_of_range_arguments() -> None:
    with pytest.raises(ValueError, match=r"sigma must be in 0 .. 1e.06, got -1"):
        GaussianTraining(sigma=-1)
    with pytest.raises(ValueError, match=r"sigma must be in 0 .. 1e\+06, got 1e\+300"):
        GaussianTraining(sigma=1e300)
    with pytest.raises(ValueError, match=r"channel_mult must be a list .* got 'abc'"):
        DiffusionTraining(overrides={"channel_mult": "abc"})
    with pytest.raises(ValueError, match="crop_padding must be >= 0 and below 32"):
        GaussianTraining(crop_padding=-1)
    with pytest.raises(ValueError, match=r"beyond max_sigma 0\.4"):
        DiffusionTraining(max_sigma=0.4, psnr_sigmas=(0.5,))
    with pytest.raises(ValueError, match="the largest possible is"):
        DiffusionTraining(max_sigma=1e6)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        ImageDataModule(batch_size=0)
    with pytest.raises(ValueError, match=r"gamma must be in \(0, 1\]"):
        LearningRate(gamma=0.0)


def test_steps_and_ranks_have_streams_of_their_own() -> None:
    cpu = torch.device("cpu")
    draws = {
        tuple(torch.randn(3, generator=step_generator(cpu, *stream)).tolist())
        for stream in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1)]
    }
    assert len(draws) == 5
    again = torch.randn(3, generator=step_generator(cpu, 0, 0, 0))
    assert tuple(again.tolist()) in draws


def test_crops_are_shifts_that_fill_with_zeros() -> None:
    images = torch.arange(1.0, 10.0).view(1, 1, 3, 3).expand(64, 1, 3, 3).contiguous()
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1))
    allowed = {
        tuple(padded[0, 0, r : r + 3, c : c + 3].flatten().tolist())
        for r in range(3)
        for c in range(3)
    }
    crops = random_crop(images, 1, torch.Generator().manual_seed(0))
    assert {tuple(crop.flatten().tolist()) for crop in crops} == allowed


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.arange(4.0).view(1, 1, 1, 4).expand(1000, 1, 1, 4).contiguous()
    flipped = random_flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).all(dim=(1, 2, 3))
    assert 430 < int(mirrored.sum()) < 570
    assert torch.equal(flipped[~mirrored], images[~mirrored])


def test_learning_rates_by_hand() -> None:
    step = LearningRate("step", step_epochs=30, gamma=0.1)
    assert [step.factor(e * 10, 900, 10) for e in (0, 29, 30, 60)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    cosine = LearningRate("cosine")
    assert [cosine.factor(s, 100, 10) for s in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    warm = LearningRate("constant", warmup_epochs=1)
    factors = [warm.factor(s, 100, 10) for s in range(12)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors == sorted(factors)
    assert factors[10:] == [1, 1]
