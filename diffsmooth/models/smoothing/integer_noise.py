"""Noise by whole numbers, for images of 8 bits: exact in distribution, and the same everywhere.

A floating-point sum image + noise gives its image away by the last bits, so that votes of some f do
not tell of the smoothed classifier, and certificates may contradict each other (Voracek & Hein
2023). Here f~(z) = f(round(255 z) / 255) is smoothed, for real z, so that the theorem holds for all
real perturbations. For x on the grid, round(255 (x + noise)) is 255 x plus the whole number
round(255 noise), which is drawn as what it is.

A word of 64 random bits, behind which infinitely many more are thought of, is a uniform number u in
[0, 1), and the whole number is the least k with u < F(k), see `cell_floors`. The word tells it
unless it *equals* some floor(2^64 F(k)). The vote is void then, and counts for no class: successes
are at most those of exact sampling, so a lower bound holds as it stands, at any alpha.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.integers_on_device import COUNTER, counters_of, noisy_on_device
from diffsmooth.models.smoothing.noise import Noisy, NumpyNoise, Votes, rows_of
from diffsmooth.models.smoothing.normal_cells import GREY_LEVELS, WORD, cell_floors

GUIDE_BITS = 16
CHUNK = 12288  # words at once: they stay in the cache


class Guide(NamedTuple):
    """From a word to its whole number.

    Attributes:
        floors: see `cell_floors`.
        offset: the whole number below the first floor.
        by_prefix: float32 (2^GUIDE_BITS,), the whole number of all words that begin so; not a
            number where there is a floor among them.
    """

    floors: np.ndarray
    offset: int
    by_prefix: np.ndarray


@lru_cache(maxsize=16)
def guide_of(level: float) -> Guide:
    """The guide for a noise level, see `cell_floors`."""
    floors = cell_floors(level)
    offset = -(len(floors) // 2)
    shift = WORD - GUIDE_BITS
    first = np.arange(2**GUIDE_BITS, dtype=np.uint64) << np.uint64(shift)
    last = first + np.uint64(2**shift - 1)
    below = floors.searchsorted(first)
    no_floor = below == floors.searchsorted(last, side="right")
    by_prefix = np.where(no_floor, below + offset, np.nan).astype(np.float32)
    return Guide(floors, offset, by_prefix)


class IntegerNoise:
    """Whole numbers: for a CPU by NumPy's generator, on other devices where they are used.

    They are the same. A random purifier's own draws, which are f's, are `NumpyNoise`'s.

    Args:
        device: where the networks run.

    Source: Philox4x64-10, Salmon et al. 2011, as in NumPy.
    """

    name = "integer-philox4x64, floors of 64 bits"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._normal = NumpyNoise(device)

    def draw(self, votes: Sequence[Votes], lane: int, rows: int, shape: tuple[int, ...]) -> Tensor:
        return self._normal.draw(votes, lane, rows, shape)

    def check(self, image: Tensor, index: int) -> None:
        if not on_grid(image):
            raise ValueError(
                f"image {index} is not of 8 bits (some 255 x are no whole numbers), as exact noise "
                "needs it: noise float takes it"
            )

    def noisy(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        if self._device.type == "cpu":
            return self._on_cpu(votes, images, level, rows)
        grey = [_grey(image) for image in images]
        return noisy_on_device(votes, grey, level, rows, self._device)

    def _on_cpu(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        guide = guide_of(level)
        noisy = torch.empty((rows, *images[0].shape))
        out = noisy.numpy().reshape(rows, -1)
        out[sum(some.count for some in votes) :] = 0.0
        void = np.zeros(rows, dtype=bool)
        for some, image, own in zip(votes, images, rows_of(votes), strict=True):
            void[own] = _fill(out[own], some, guide)
            out[own] += _grey(image).ravel()
            out[own] /= np.float32(GREY_LEVELS)
        return Noisy(noisy, torch.from_numpy(void) if void.any() else None)


def on_grid(image: Tensor) -> bool:
    """Whether an image is one of 8 bits: each value some k / 255, however float32 rounds it."""
    off = np.abs(image.numpy() * np.float32(GREY_LEVELS) - _grey(image))
    return bool(off.max() <= GREY_LEVELS * 2.0**-23)


def _grey(image: Tensor) -> np.ndarray:
    """255 x, whole numbers in float32, of an image on the CPU."""
    # In NumPy: torch would wake a second team of threads beside that of the networks.
    return np.rint(image.numpy() * np.float32(GREY_LEVELS))


def _fill(out: np.ndarray, votes: Votes, guide: Guide) -> np.ndarray:
    """The whole numbers of some votes, into float32 (count, size); and which are void, (count,)."""
    count, size = out.shape
    counters = counters_of(size)
    counter = np.array([votes.first * counters, 0, votes.stage, 0], dtype=np.uint64)
    generator = np.random.Philox(key=votes.key.words, counter=counter)
    padded = COUNTER * counters
    whole = out.reshape(-1) if padded == size else np.empty(count * padded, dtype=np.float32)
    void = []
    for start in range(0, len(whole), CHUNK):
        part = whole[start : start + CHUNK]
        void.append(start + whole_numbers(generator.random_raw(len(part)), guide, part))
    if padded != size:
        out[:] = whole.reshape(count, padded)[:, :size]
    row, column = np.divmod(np.concatenate(void), padded)
    return np.isin(np.arange(count), row[column < size])


def whole_numbers(words: np.ndarray, guide: Guide, out: np.ndarray) -> np.ndarray:
    """The whole number of each word, uint64 (N,), into float32 (N,); and which do not tell it.

    Returns:
        The places of words that equal a floor, ascending.
    """
    prefixes = (words >> np.uint64(WORD - GUIDE_BITS)).view(np.int64)
    guide.by_prefix.take(prefixes, out=out, mode="clip")  # the default mode copies
    hard = np.flatnonzero(np.isnan(out))
    place = guide.floors.searchsorted(words[hard])
    out[hard] = place + guide.offset
    return hard[guide.floors[place] == words[hard]]
