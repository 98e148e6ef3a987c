"""Purified draws of a dataset's images, computed once and kept on disk."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm

from diffsmooth.lit.data.images import ImageSet, Sample
from diffsmooth.lit.identity import file_sha256
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.loading import check_unet, unet_of
from diffsmooth.models.noise import NoiseKey, NoiseStream
from diffsmooth.models.precision import resolve_precision
from diffsmooth.models.presets import get_preset
from diffsmooth.models.purifiers import OneShotPurifier

BLOCK = 64  # images that are purified and marked as done together


@dataclass(frozen=True)
class Purification:
    """Trains on purify(x + sigma * eps) in place of x: what certification shows to a classifier.

    The training noise is then the local smoothing's: set the module's sigma to sigma_local.

    Attributes:
        diffusion: checkpoint of the diffusion model.
        sigma: noise level that is purified, > 0, in [0, 1] pixel units.
        draws: independent draws an image, at least 1; training takes another one each time.
        folder: where the draws are kept, uint8, C * H * W * draws bytes an image.
        seed: of the noise.

    Raises:
        ValueError: sigma <= 0 or draws < 1.
    """

    diffusion: str
    sigma: float
    draws: int = 4
    folder: str = "data/purified"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"purified sigma must be > 0 and finite, got {self.sigma}")
        if self.draws < 1:
            raise ValueError(f"purified draws must be at least 1, got {self.draws}")


class PurifiedImages(ImageSet):
    """A dataset whose items hold all draws (draws, C, H, W) of an image.

    Args:
        images: the dataset that was purified.
        draws: uint8 (N, draws, C, H, W).
    """

    def __init__(self, images: ImageSet, draws: np.ndarray) -> None:
        self.info = images.info
        self.labels = images.labels
        self._draws = draws

    def __getitem__(self, index: int) -> Sample:
        draws = torch.from_numpy(np.array(self._draws[index])).float() / 255
        return Sample(draws, int(self.labels[index]), index)


def purify_images(
    images: ImageSet, split: str, purification: Purification, trainer: pl.Trainer
) -> PurifiedImages:
    """The purified draws of a dataset: what the disk lacks is computed, each rank doing its share.

    An interrupted computation goes on from the blocks that are done.

    Args:
        images: the dataset.
        split: its name.
        purification: what is wanted.
        trainer: whose ranks and devices do the work.

    Raises:
        ValueError: a diffusion model that cannot be read, or was not made for such images or noise.
    """
    device = trainer.strategy.root_device
    precision = resolve_precision("auto", device.type)
    identity = {
        "images": images.fingerprint(),
        "split": split,
        "diffusion": file_sha256(purification.diffusion),
        "sigma": purification.sigma,
        "draws": purification.draws,
        "seed": purification.seed,
        "precision": precision,
    }
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = Path(purification.folder) / f"{images.info.name}_{split}_{digest}"
    if trainer.is_global_zero and not (folder / "identity.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(images), purification.draws, *images.info.image_shape)
        open_memmap(folder / "draws.npy", "w+", np.uint8, shape)
        open_memmap(folder / "done.npy", "w+", np.bool_, (math.ceil(len(images) / BLOCK),))
        (folder / "identity.json").write_text(json.dumps(identity, indent=1) + "\n")
    trainer.strategy.barrier("the files are laid out")
    draws, done = open_memmap(folder / "draws.npy", "r+"), open_memmap(folder / "done.npy", "r+")
    own = range(trainer.global_rank, len(done), trainer.world_size)
    missing = [block for block in own if not done[block]]
    if missing:
        purify = _purifier(images, split, purification, device, precision)
        quiet = trainer.global_rank > 0
        for block in tqdm(missing, desc=f"purifying {split} images", unit="block", disable=quiet):
            indices = range(block * BLOCK, min((block + 1) * BLOCK, len(images)))
            draws[indices.start : indices.stop] = purify(indices)
            draws.flush()  # before the mark: a marked block is whole
            done[block] = True
            done.flush()
    trainer.strategy.barrier("all draws are purified")
    return PurifiedImages(images, draws)


def _purifier(
    images: ImageSet, split: str, purification: Purification, device: torch.device, precision: str
) -> Callable[[range], np.ndarray]:
    """From indices to draws, uint8 (len, draws, C, H, W)."""
    checkpoint = read_checkpoint(purification.diffusion)
    unet = unet_of(checkpoint).to(device)
    sigma, count = purification.sigma, purification.draws
    check_unet(checkpoint, unet, sigma, images.info)
    purifier = OneShotPurifier(unet, get_preset(checkpoint.metadata.preset).schedule)

    def purify(indices: range) -> np.ndarray:
        noisy = []
        for index in indices:
            image = images[index].image
            key = NoiseKey(purification.seed, "train", images.info.name, split, index)
            noise = NoiseStream(key, 0, tuple(image.shape)).take(count)
            noisy.append(image + purifier.noise_level(sigma) * noise)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            # One draw of each image at a time bounds the memory.
            purified = torch.stack(
                [purifier(x.to(device), sigma) for x in torch.stack(noisy, dim=1)], dim=1
            )
        return (255 * purified).round().to(torch.uint8).cpu().numpy()

    return purify
