"""Counter-based noise.

Each vote's draw belongs to (seed, purpose, dataset, split, image, stage, number of the vote). It
never depends on a rank, a batch or the order of work, and it is the same on every device.
"""

import hashlib
import json
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # votes drawn from one counter; changing it changes every result

Purpose = Literal["certify", "predict", "tune", "sanity", "doctor", "attack", "train"]
"""Purposes never share a stream, or a choice made on one would depend on the noise of another."""


class NoiseKey(NamedTuple):
    """Whose noise it is: everything but the stage and the vote's number."""

    seed: int
    purpose: Purpose
    dataset: str
    split: str
    image: int

    def words(self) -> np.ndarray:
        """The 128-bit key of Philox, uint64 (2,)."""
        digest = hashlib.blake2b(json.dumps(self).encode(), digest_size=16).digest()
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


class NoiseStream:
    """Standard normal draws, in the order of the votes' numbers.

    Args:
        key: whose noise.
        stage: of the plan; stages are disjoint streams.
        shape: (C, H, W) of one draw.
        lane: 0 for the noise of the votes themselves; a random purifier's draws have lanes of their
            own, disjoint streams in step with the votes.

    Source: Philox4x64-10, Salmon et al. 2011, as in NumPy.
    """

    def __init__(self, key: NoiseKey, stage: int, shape: tuple[int, ...], lane: int = 0) -> None:
        self._key = key.words()
        self._lane = lane
        self._stage = stage
        self._shape = shape
        self._next = 0  # number of the next vote

    def take(self, count: int) -> Tensor:
        """The next `count` draws, float32 (count, C, H, W) on the CPU."""
        parts = []
        while count > 0:
            block, first = divmod(self._next, BLOCK)
            rows = min(count, BLOCK - first)
            # Nothing is kept between calls: the beginning of a block is drawn again.
            parts.append(self._draw(block, first + rows)[first:])
            self._next += rows
            count -= rows
        return torch.from_numpy(np.concatenate(parts))

    def _draw(self, block: int, rows: int) -> np.ndarray:
        # NumPy increments the first word as it draws, so the block's number must stand in another:
        # in the first, each block would be a shifted copy of the one before, and votes dependent.
        counter = np.array([0, block, self._stage, self._lane], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        return generator.standard_normal((rows, *self._shape), dtype=np.float32)


class VoteNoise:
    """The noise of consecutive votes: their own, and what a random purifier draws for each.

    Args:
        key, stage, shape: see `NoiseStream`.
        draws: draws of a run of the purifier.
    """

    def __init__(self, key: NoiseKey, stage: int, shape: tuple[int, ...], draws: int = 0) -> None:
        self._make = (key, stage, shape)
        self._own = NoiseStream(key, stage, shape)
        self._draws = draws
        self._taken = 0
        self._lanes: dict[int, NoiseStream] = {}

    def take(self, count: int) -> Tensor:
        """(count, C, H, W): the next `count` votes' own noise."""
        self._taken = count
        return self._own.take(count)

    def draws_of(self, run: int) -> Tensor | None:
        """(draws, count, C, H, W) of one run, for the votes just taken; None without draws.

        One run at a time, once each: those of all runs together would not fit into memory.
        """
        if not self._draws:
            return None
        drawn = []
        for lane in range(1 + run * self._draws, 1 + (run + 1) * self._draws):
            if lane not in self._lanes:
                self._lanes[lane] = NoiseStream(*self._make, lane)
            drawn.append(self._lanes[lane].take(self._taken))
        return torch.stack(drawn)
