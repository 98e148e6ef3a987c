"""Which noise a run's images get: the exact one, wherever they allow it."""

from collections.abc import Iterable

from diffsmooth.lit.data import ImageSet
from diffsmooth.models.smoothing.noise_sources import source_word
from diffsmooth.models.smoothing.normal_cells import HIGHEST_LEVEL
from diffsmooth.models.words import SourceName
from diffsmooth.stats.errors import UserError


def choose_noise(
    stored: str | None, images: ImageSet, indices: Iterable[int], level: float
) -> SourceName:
    """The source of a run's noise.

    Args:
        stored: what its identity calls it, where that is told: by the user, or by the first start.
        images, indices: the images, and which of them get noise.
        level: standard deviation of the noise, in [0, 1] pixel units.

    Raises:
        UserError: exact noise for images that cannot have it, or an unknown source.
    """
    word = None if stored is None else source_word(stored)
    if word in ("float", "device"):
        return word
    problem = inexact(images, indices, level)
    if not problem:
        return "integer"
    if word is None:
        return "float"
    raise UserError(f"{problem}: take noise float")


def inexact(images: ImageSet, indices: Iterable[int], level: float) -> str:
    """Why a run cannot have exact noise; "" if it can. Arguments as of `choose_noise`."""
    if level > HIGHEST_LEVEL:
        return f"exact noise has levels to {HIGHEST_LEVEL:g}, {level:g} is wanted"
    index = images.off_grid(indices)
    if index is None:
        return ""
    name = images.file_name(index)
    which = f"image {index}{f' ({name})' if name else ''}"
    return f"exact noise is for images of 8 bits, which {which} is not"
