"""Whole-number noise where it is used: by a kernel, or by torch's operations; the same numbers.

See `IntegerNoise`, whose words these are.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.smoothing.noise import Noisy, Votes, rows_of
from diffsmooth.models.smoothing.normal_cells import GREY_LEVELS, cell_floors
from diffsmooth.models.smoothing.philox import philox4x64

COUNTER = 4  # words from one counter
SIGN = -(2**63)  # flips the order of whole numbers without a sign into that of those with one


def counters_of(size: int) -> int:
    """How many counters a vote takes for so many words."""
    return -(-size // COUNTER)


def noisy_on_device(
    votes: Sequence[Votes],
    grey: Sequence[np.ndarray],
    level: float,
    rows: int,
    device: torch.device,
) -> Noisy:
    """The images plus their votes' own noise.

    Args:
        votes, level, rows: see `NoiseSource.noisy`.
        grey: float32 (C, H, W) each, 255 times the images.
        device: where the result is made.
    """
    streams, sources = streams_of(votes, counters_of(grey[0].size))
    streams, sources, images = (
        x.to(device, non_blocking=True)
        for x in (streams, sources, torch.from_numpy(np.stack(grey)))
    )
    noisy = torch.empty(rows, *images.shape[1:], device=device)
    void = torch.zeros(rows, dtype=torch.bool, device=device)
    used = len(streams)
    noisy[used:] = 0.0
    fill = by_operations if lacking(device) else by_kernel
    fill(noisy[:used], void[:used], streams, sources, images, level)
    return Noisy(noisy, void)


def streams_of(votes: Sequence[Votes], counters: int) -> tuple[Tensor, Tensor]:
    """Where each row's words begin, and whose noise it is.

    Returns:
        int64 (rows, 4): two words of key, the counter's first word before the first draw, and its
        third; int64 (rows,): the image.
    """
    count = sum(some.count for some in votes)
    streams, sources = np.empty((count, 4), dtype=np.int64), np.empty(count, dtype=np.int64)
    for place, (some, own) in enumerate(zip(votes, rows_of(votes), strict=True)):
        streams[own, :2] = some.key.words.view(np.int64)
        streams[own, 2] = np.arange(some.first, some.first + some.count) * counters
        streams[own, 3] = some.stage
        sources[own] = place
    return torch.from_numpy(streams), torch.from_numpy(sources)


def by_kernel(
    noisy: Tensor, void: Tensor, streams: Tensor, sources: Tensor, grey: Tensor, level: float
) -> None:
    """Fills rows (rows, C, H, W) and whether they are void (rows,), false so far.

    Args:
        noisy, void: to fill.
        streams, sources: see `streams_of`.
        grey: float32 (images, C, H, W), 255 times the images.
        level: see `cell_floors`.
    """
    from diffsmooth.models.kernels.whole_noise import fill_noisy  # only where Triton is there

    floors = _floors(level, grey.device)
    fill_noisy(noisy, void, streams, sources, grey.flatten(1), floors)


def by_operations(
    noisy: Tensor, void: Tensor, streams: Tensor, sources: Tensor, grey: Tensor, level: float
) -> None:
    """As `by_kernel`, whose truth it is."""
    size, device = grey[0].numel(), grey.device
    key_low, key_high, first, stage = streams.T[..., None]
    # NumPy counts before it draws.
    counter = first + torch.arange(1, counters_of(size) + 1, device=device)
    nothing = torch.zeros_like(stage)
    words = torch.stack(philox4x64((counter, nothing, stage, nothing), (key_low, key_high)), dim=-1)
    words = words.flatten(1)[:, :size] ^ SIGN
    floors = _floors(level, device) ^ SIGN
    place = torch.searchsorted(floors, words)
    void |= (floors[place] == words).any(dim=1)
    noisy.copy_((place - len(floors) // 2).view(noisy.shape))
    noisy += grey[sources]
    # By a number on the device: by one of the host's CUDA multiplies with its reciprocal.
    noisy /= torch.full((), GREY_LEVELS, dtype=noisy.dtype, device=device)


@lru_cache(maxsize=16)
def _floors(level: float, device: torch.device) -> Tensor:
    """The bits of `cell_floors`, int64."""
    return torch.from_numpy(cell_floors(level).view(np.int64).copy()).to(device)
