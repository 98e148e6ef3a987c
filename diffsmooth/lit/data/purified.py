"""Purified draws of a dataset's images, computed once and kept on disk."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffsmooth.lit.data.images import DataError, ImageSet, Sample, evenly_spaced
from diffsmooth.models.checkpoints.denoisers import check_denoiser, load_denoiser
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise
from diffsmooth.models.smoothing.precision import autocast, resolve_precision
from diffsmooth.models.smoothing.purifiers import OneShotPurifier
from diffsmooth.whole_file import file_sha256, whole_file, write_whole

BLOCK = 256  # images a file
BATCH = 64  # draws a forward pass
LOOKED_AT = 1000  # files, evenly chosen, that are read to see that they are the same
OPEN = 200  # blocks at once, each a file descriptor


@dataclass(frozen=True)
class Purification:
    """Trains on purify(x + sigma * eps) in place of x: what certification shows to a classifier.

    The training noise is then the local smoothing's: set the module's sigma to sigma_local.

    Attributes:
        diffusion: checkpoint of the diffusion model.
        sigma: noise level that is purified, > 0, in [0, 1] pixel units.
        draws: independent draws an image, at least 1; training takes another one each time.
        folder: where the draws are kept, uint8, C * H * W * draws bytes an image.
        seed: the noise's seed.

    Raises:
        DataError: sigma <= 0, draws < 1 or no such checkpoint.
    """

    diffusion: str
    sigma: float
    draws: int = 4
    folder: str = "data/purified"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise DataError(f"purified sigma must be > 0 and finite, got {self.sigma}")
        if self.draws < 1:
            raise DataError(f"purified draws must be at least 1, got {self.draws}")
        if not Path(self.diffusion).is_file():
            raise DataError(f"purified diffusion {self.diffusion}: no such checkpoint")

    def words(self) -> str:
        """What tells its draws from others', wherever they and the checkpoint lie."""
        return f"sigma {self.sigma}, draws {self.draws}, seed {self.seed}"


class PurifiedImages(ImageSet):
    """A dataset whose items hold all draws (draws, C, H, W) of an image.

    Args:
        images: the dataset that was purified.
        files: each holds the draws of `BLOCK` images, uint8 (BLOCK, draws, C, H, W), or fewer.
    """

    def __init__(self, images: ImageSet, files: list[Path]) -> None:
        self.info = images.info
        self.labels = images.labels
        self._files = files
        self._blocks: dict[int, np.ndarray] = {}  # memory-mapped, as they are needed

    def __getitem__(self, index: int) -> Sample:
        draws = torch.from_numpy(self._draws(index)).float() / 255
        return Sample(draws, int(self.labels[index]), index)

    def stored_shape(self) -> tuple[int, ...]:
        return self._draws(0).shape

    def stored(self, indices: Sequence[int]) -> Tensor:
        return torch.from_numpy(np.stack([self._draws(index) for index in indices]))

    def _draws(self, index: int) -> np.ndarray:
        """A copy of an image's, uint8 (draws, C, H, W)."""
        block, row = divmod(index, BLOCK)
        if block not in self._blocks:
            if len(self._blocks) >= OPEN:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[block] = np.load(self._files[block], mmap_mode="r")
        return np.array(self._blocks[block][row])


def purify_images(
    images: ImageSet, split: str, purification: Purification, trainer: pl.Trainer | None
) -> PurifiedImages:
    """The purified draws of a dataset: what the disk lacks is computed, each rank doing its share.

    An interrupted computation goes on from the blocks that are there: a file is whole or missing.

    Args:
        trainer: whose ranks and devices do the work; None: the CPU.

    Raises:
        DataError: a diffusion model that cannot be read, or was not made for such images or noise;
            a folder that cannot be written, or that the hosts do not share.
    """
    device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
    rank, ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
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
    if not images.in_memory:  # of files a fingerprint knows names and sizes only
        files_digest = images.content(evenly_spaced(len(images), LOOKED_AT))
        _check_files(folder, files_digest)
        identity["files"] = files_digest
    files = [folder / f"{block:06d}.npy" for block in range(math.ceil(len(images) / BLOCK))]
    missing = [block for block in range(len(files)) if not files[block].is_file()]
    if trainer is not None:
        trainer.strategy.barrier("all ranks have seen what is missing")
    own = missing[rank::ranks]
    if own:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "identity.json", f"{json.dumps(identity, indent=1)}\n".encode())
            purify = _purifier(images, split, purification, device, precision)
        except (OSError, ValueError) as error:
            raise DataError(f"purified images: {error}") from error
        for block in tqdm(own, desc=f"purifying {split} images", unit="block", disable=rank > 0):
            stop = min((block + 1) * BLOCK, len(images))
            draws = purify(range(block * BLOCK, stop))
            try:
                with whole_file(files[block]) as partial, open(partial, "wb") as file:
                    np.save(file, draws)
            except OSError as error:
                raise DataError(f"{files[block]}: cannot be written ({error.strerror})") from error
    if trainer is not None:
        trainer.strategy.barrier("all draws are purified")
    lacking = [file for file in files if not file.is_file()]
    if lacking:
        raise DataError(f"{lacking[0]} is missing: the hosts must share data.purified.folder")
    return PurifiedImages(images, files)


def _check_files(folder: Path, files: str) -> None:
    """Raises DataError for draws of other files; of which they are, version 0.2 did not keep."""
    try:
        kept = json.loads((folder / "identity.json").read_text()).get("files", files)
    except (OSError, ValueError):
        return
    if kept != files:
        raise DataError(
            f"{folder}: holds draws of files that had the same names and sizes, and other images: "
            "remove it, or give another data.purified.folder"
        )


def _purifier(
    images: ImageSet, split: str, purification: Purification, device: torch.device, precision: str
) -> Callable[[range], np.ndarray]:
    """From indices to draws, uint8 (len, draws, C, H, W)."""
    denoiser = load_denoiser(purification.diffusion).to(device)
    sigma, count = purification.sigma, purification.draws
    check_denoiser(denoiser, purification.diffusion, sigma, images.info)
    purifier = OneShotPurifier(denoiser)

    def purify(indices: range) -> np.ndarray:
        noisy = []
        for index in indices:
            image = images[index].image
            key = NoiseKey(purification.seed, "train", images.info.name, split, index)
            noise = draw_noise(key, count, tuple(image.shape))
            noisy.append(image + purifier.noise_level(sigma) * noise)
        with torch.inference_mode(), autocast(precision, device.type):
            flat = torch.cat(noisy).split(BATCH)
            purified = torch.cat([purifier(x.to(device), sigma) for x in flat])
            purified = purified.unflatten(0, (len(indices), count))
        whole = purified.isfinite().flatten(1).all(dim=1)
        if not whole.all():
            first = indices[int((~whole).nonzero()[0])]
            raise DataError(
                f"{purification.diffusion}: what it makes of image {first} of {images.info.name} "
                "is not finite"
            )
        return (255 * purified).round().to(torch.uint8).cpu().numpy()

    return purify
