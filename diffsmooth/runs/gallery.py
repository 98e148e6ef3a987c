"""The pixels of a few images on their way through the pipeline: `OUT.images.npz`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffsmooth.npz_file import NpzError, read_npz
from diffsmooth.runs.npz_records import write_records
from diffsmooth.stats.errors import UserError

FIELDS = ("index", "original", "noisy", "purified", "copies")


@dataclass(frozen=True)
class GalleryImage:
    """One image of the gallery, uint8 arrays.

    Attributes:
        index: the image's number in its dataset.
        original: (C, H, W).
        noisy: (C, H, W), with the noise of its first vote.
        purified: (C, H, W); the noisy image itself where there is no purifier.
        copies: (m, C, H, W), the local copies that the classifier sees; m = 0 where they are the
            purified image itself.
    """

    index: int
    original: np.ndarray
    noisy: np.ndarray
    purified: np.ndarray
    copies: np.ndarray


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 of pixels in [0, 1]; what the noise moved beyond is clipped."""
    return np.round(255 * pixels.clip(0.0, 1.0)).astype(np.uint8)


def write_gallery(path: Path, images: Sequence[GalleryImage]) -> None:
    """Writes images of one shape, at least one, to an .npz file, whole or not at all."""
    write_records(path, images)


def read_gallery(path: Path) -> list[GalleryImage]:
    """The images of such a file.

    Raises:
        UserError: broken; the message names the file.
    """
    try:
        index, *pixels = read_npz(path, FIELDS)
    except NpzError as error:
        raise UserError(f"{path}: not the images of a run ({error})") from error
    sides = [part.shape[-3:] for part in pixels]
    sound = (
        index.ndim == 1
        and np.issubdtype(index.dtype, np.integer)
        and [part.ndim for part in pixels] == [4, 4, 4, 5]
        and all(part.dtype == np.uint8 and len(part) == len(index) for part in pixels)
        and len(set(sides)) == 1
        and sides[0][0] in (1, 3)
        and min(sides[0]) > 0
    )
    if not sound:
        raise UserError(f"{path}: not the images of a run (other types or shapes)")
    return [GalleryImage(int(i), *parts) for i, *parts in zip(index, *pixels, strict=True)]
