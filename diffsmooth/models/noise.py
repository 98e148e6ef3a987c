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

Purpose = Literal["certify", "predict", "tune", "sanity", "doctor", "attack"]
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
        self._blocks_drawn = 0
        self._left = np.empty((0, *shape), dtype=np.float32)

    def take(self, count: int) -> Tensor:
        """The next `count` draws, float32 (count, C, H, W) on the CPU."""
        parts = [self._left]
        have = len(self._left)
        while have < count:
            parts.append(self._draw_block())
            have += BLOCK
        drawn = np.concatenate(parts)
        self._left = drawn[count:]
        return torch.from_numpy(drawn[:count])

    def _draw_block(self) -> np.ndarray:
        # NumPy increments the first word as it draws, so the block's number must stand in another:
        # in the first, each block would be a shifted copy of the one before, and votes dependent.
        counter = np.array([0, self._blocks_drawn, self._stage, self._lane], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        self._blocks_drawn += 1
        return generator.standard_normal((BLOCK, *self._shape), dtype=np.float32)


class VoteNoise:
    """The noise of consecutive votes: their own, and what a random purifier draws for each.

    Args:
        key, stage, shape: see `NoiseStream`.
        runs: reverse runs a vote.
        draws: draws a run.
    """

    def __init__(
        self, key: NoiseKey, stage: int, shape: tuple[int, ...], runs: int = 1, draws: int = 0
    ) -> None:
        self._own = NoiseStream(key, stage, shape)
        self._draws = [
            [NoiseStream(key, stage, shape, lane=1 + run * draws + i) for i in range(draws)]
            for run in range(runs if draws else 0)
        ]

    def take(self, count: int) -> tuple[Tensor, Tensor | None]:
        """(count, C, H, W) of the next `count` votes, and (runs, draws, count, C, H, W) or None."""
        own = self._own.take(count)
        if not self._draws:
            return own, None
        runs = [torch.stack([lane.take(count) for lane in run]) for run in self._draws]
        return own, torch.stack(runs)
