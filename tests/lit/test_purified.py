"""Training on purified draws: the draws themselves, their keeping, and the data module."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from stripes import make_trainer

from diffsmooth.lit.data import ImageDataModule, load_images, purified
from diffsmooth.lit.data.images import DataError, ImageSet
from diffsmooth.lit.data.purified import Purification, purify_images
from diffsmooth.lit.training import ConsistencyTraining
from diffsmooth.models import OneShotPurifier, load_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


BLOCK = 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purified, "BLOCK", BLOCK)


@pytest.fixture
def wanted(tmp_path: Path, unet_file: Path) -> Purification:
    return Purification(str(unet_file), sigma=0.5, draws=3, folder=str(tmp_path / "draws"))


def trainer(tmp_path: Path) -> pl.Trainer:
    return make_trainer(tmp_path, 1)


def test_draws_are_what_certification_purifies(
    tmp_path: Path, root: Path, wanted: Purification, unet_file: Path
) -> None:
    images = load_images("fashion_mnist", root, "train")
    purified_images = purify_images(images, "train", wanted, trainer(tmp_path))
    assert len(purified_images) == len(images)
    purifier = OneShotPurifier(load_unet(unet_file), get_preset("small-gray32").schedule)
    for index in (0, BLOCK, len(images) - 1):
        image = images[index].image
        key = NoiseKey(0, "train", "fashion_mnist", "train", index)
        noise = draw_noise(key, 3, tuple(image.shape))
        with torch.inference_mode():
            expected = purifier(image + 0.5 * noise, 0.5)
        sample = purified_images[index]
        assert sample.image.shape == (3, 1, 32, 32)
        assert (sample.label, sample.original_index) == (images[index].label, index)
        # bf16 where the hardware has it, and 8-bit draws.
        assert (sample.image - expected).abs().mean() < 0.01
        assert not torch.equal(sample.image[0], sample.image[1])


@pytest.mark.slow
def test_what_is_kept_is_not_computed_again(
    tmp_path: Path, root: Path, wanted: Purification, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images("fashion_mnist", root, "train")
    computed: list[int] = []
    make = purified._purifier

    def counting(*arguments: Any) -> Any:
        purify = make(*arguments)

        def call(indices: range) -> np.ndarray:
            computed.append(indices.start)
            if len(computed) == 2 and stop:
                raise KeyboardInterrupt
            return purify(indices)

        return call

    monkeypatch.setattr(purified, "_purifier", counting)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        purify_images(images, "train", wanted, trainer(tmp_path))
    stop = False
    first = purify_images(images, "train", wanted, trainer(tmp_path))
    assert computed == [0, BLOCK, BLOCK, 2 * BLOCK]
    again = purify_images(images, "train", wanted, trainer(tmp_path))
    assert len(computed) == 4
    assert torch.equal(first[100].image, again[100].image)
    other = Purification(wanted.diffusion, 0.25, 3, wanted.folder)
    purify_images(images, "train", other, trainer(tmp_path))
    assert len(computed) == 7  # another noise level has draws of its own


def test_training_takes_the_draws(tmp_path: Path, root: Path, wanted: Purification) -> None:
    data = ImageDataModule(
        "fashion_mnist", str(root), batch_size=32, validation_images=32, purified=wanted
    )
    module = ConsistencyTraining(arch="cifar_resnet8", sigma=0.25, flip=True, crop_padding=1)
    seen: list[torch.Size] = []
    losses = module.losses

    def spied(views: torch.Tensor, *rest: Any) -> Any:
        seen.append(views.shape)
        return losses(views, *rest)

    module.losses = spied  # type: ignore[method-assign]
    fitting = make_trainer(tmp_path, 1)
    fitting.fit(module, datamodule=data)
    assert seen == [torch.Size([32, 3, 1, 32, 32])] * 4
    metrics = fitting.test(module, datamodule=data, verbose=False)[0]
    assert 0 <= metrics["test/noisy_accuracy"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "purified sigma must be > 0"),
        ({"draws": 0}, "purified draws must be at least 1"),
        ({"diffusion": "x.pt"}, "purified diffusion x.pt: no such checkpoint"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str, unet_file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Purification(**({"diffusion": str(unet_file), "sigma": 0.5} | change))


def test_a_diffusion_model_for_less_noise_is_refused(
    tmp_path: Path, root: Path, wanted: Purification
) -> None:
    images = load_images("fashion_mnist", root, "train")
    too_much = Purification(wanted.diffusion, 2.0, folder=wanted.folder)
    with pytest.raises(DataError, match=r"sigma 2\.0 is beyond what .* was trained for"):
        purify_images(images, "train", too_much, trainer(tmp_path))


def test_files_that_were_written_anew_are_not_taken_for_those_before(
    tmp_path: Path, wanted: Purification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitmaps of one size: their names and sizes stay as they were."""

    def as_they_are(images: ImageSet, *_: object) -> Callable[[range], np.ndarray]:
        def purify(indices: range) -> np.ndarray:
            return np.stack([(255 * images[n].image).byte().numpy()[None] for n in indices])

        return purify

    monkeypatch.setattr(purified, "_purifier", as_they_are)
    for value, match in ((50, ""), (50, ""), (200, "files that had the same names and sizes")):
        for name in ("a", "b"):
            (tmp_path / f"set/{name}").mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (32, 32), value + 20 * (name == "b"))
            picture.save(tmp_path / f"set/{name}/0.bmp")
        images = load_images(str(tmp_path / "set"), split="train")
        with pytest.raises(DataError, match=match) if match else nullcontext():
            purify_images(images, "train", wanted, None)


def test_few_blocks_are_open_at_once(
    tmp_path: Path, root: Path, wanted: Purification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purified, "OPEN", 1)
    images = load_images("fashion_mnist", root, "train")
    found = purify_images(images, "train", wanted, trainer(tmp_path))
    first, last = found[0].image, found[len(images) - 1].image
    assert len(found._blocks) == 1
    assert torch.equal(found[0].image, first)
    assert torch.equal(found[len(images) - 1].image, last)


def test_what_is_not_finite_is_no_black_image(
    tmp_path: Path, root: Path, wanted: Purification, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing(OneShotPurifier):
        def forward(self, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
            return torch.where(noisy.amax(dim=(1, 2, 3), keepdim=True) > 2.8, torch.nan, noisy)

    monkeypatch.setattr(purified, "OneShotPurifier", Overflowing)
    images = load_images("fashion_mnist", root, "train")
    with pytest.raises(DataError, match=r"makes of image \d+ of fashion_mnist is not finite"):
        purify_images(images, "train", wanted, trainer(tmp_path))
