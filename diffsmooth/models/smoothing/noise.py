"""Counter-based noise.

Each vote's draw belongs to (seed, purpose, dataset, split, image, stage, number of the vote). It
never depends on a rank, a batch or the order of work.
"""

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.host import usable_cores
from diffsmooth.models.smoothing.philox import normals, philox4x32

CPU = torch.device("cpu")
MOST_THREADS = 16
BLOCK = 32  # votes drawn from one counter of NumPy's; changing it changes every result

Purpose = Literal[
    "certify", "predict", "tune", "sanity", "probe", "doctor", "train", "evaluate",
    "attack", "attacked", "confirm",
]  # fmt: skip
"""Purposes never share a stream, or a choice made on one would depend on the noise of another."""


class NoiseKey(NamedTuple):
    """Whose noise it is: everything but the stage and the vote's number.

    `seed` and `image` may be NumPy's integers: they are the noise of Python's.
    """

    seed: int
    purpose: Purpose
    dataset: str
    split: str
    image: int

    @property
    def words(self) -> np.ndarray:
        """The two words of a Philox4x64 key, uint64."""
        return np.frombuffer(self.digest(16), dtype="<u8").astype(np.uint64)

    def digest(self, size: int) -> bytes:
        """So many bytes that stand for the key in a generator.

        Raises:
            TypeError: a seed or an image that is no integer.
        """
        seed, image = operator.index(self.seed), operator.index(self.image)
        key = self._replace(seed=seed, image=image)
        return hashlib.blake2b(json.dumps(key).encode(), digest_size=size).digest()


@dataclass(frozen=True)
class Votes:
    """Consecutive votes of one image: numbers `first` .. `first + count - 1` of a stage.

    Stages of a plan are disjoint streams.
    """

    key: NoiseKey
    stage: int
    first: int
    count: int


def rows_of(votes: Sequence[Votes]) -> Iterator[slice]:
    """The rows of a batch that each of the votes takes, one behind the other."""
    start = 0
    for some in votes:
        yield slice(start, start + some.count)
        start += some.count


class Noisy(NamedTuple):
    """A batch of noisy images.

    Attributes:
        images: float32 (rows, C, H, W), in [0, 1] but for their noise.
        void: bool (rows,), which of them are votes for no class; None where none is.
    """

    images: Tensor
    void: Tensor | None = None


class NoiseSource(Protocol):
    """Makes the noise of a batch of votes."""

    name: str
    """Goes into the manifest: another name is other noise."""

    def draw(self, votes: Sequence[Votes], lane: int, rows: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal draws, float32 (rows, C, H, W), on the source's device.

        Args:
            votes: whose noise, in the order of the rows; the rows that are left over are zero.
            lane: 0 for the noise of the votes themselves; a random purifier's draws have lanes of
                their own, disjoint streams in step with the votes.
            rows: at least as many as votes.
            shape: (C, H, W) of one draw.
        """

    def noisy(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        """The images plus their votes' own noise.

        Args:
            votes, rows: see `draw`.
            images: (C, H, W) each, on the CPU: whose votes they are.
            level: standard deviation, in [0, 1] pixel units.
        """

    def check(self, image: Tensor, index: int) -> None:
        """Raises ValueError for an image (C, H, W), number `index`, that it cannot add noise to."""


class NumpyNoise:
    """NumPy's generator on the CPU: the same noise on every device.

    Args:
        device: where the networks run. For a GPU the noise is made in page-locked memory, from
            which it copies without holding up the CPU, and by several threads.
        threads: that fill at once; by default see `free_threads`. They change nothing.

    Source: Philox4x64-10, Salmon et al. 2011, as in NumPy.
    """

    name = f"numpy-philox4x64, blocks of {BLOCK}"

    def __init__(self, device: torch.device = CPU, threads: int | None = None) -> None:
        self._pinned = device.type == "cuda"
        threads = threads or free_threads(device)
        # NumPy fills without Python's lock.
        self._each = ThreadPoolExecutor(threads, "noise").map if threads > 1 else map

    def draw(self, votes: Sequence[Votes], lane: int, rows: int, shape: tuple[int, ...]) -> Tensor:
        noise = torch.empty((rows, *shape), pin_memory=self._pinned)
        out = noise.numpy()
        out[sum(some.count for some in votes) :] = 0.0
        blocks = [
            block
            for some, own in zip(votes, rows_of(votes), strict=True)
            for block in _blocks_of(out[own], some, lane)
        ]
        list(self._each(_fill, blocks))
        return noise

    def noisy(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        noisy = self.draw(votes, 0, rows, tuple(images[0].shape))
        # In NumPy: torch would wake a second team of threads beside that of the networks.
        out = noisy.numpy()
        for own, image in zip(rows_of(votes), images, strict=True):
            out[own] *= np.float32(level)
            out[own] += image.numpy()
        return Noisy(noisy)

    def check(self, image: Tensor, index: int) -> None:
        """Takes any."""


def free_threads(device: torch.device) -> int:
    """How many threads may make noise beside networks on a device.

    On a CPU the cores are the networks', and one thread keeps up.
    """
    return 1 if device.type == "cpu" else min(MOST_THREADS, usable_cores())


class _Block(NamedTuple):
    """Votes of one block: their rows, the generator's key and counter, and how many to skip."""

    out: np.ndarray
    key: np.ndarray
    counter: np.ndarray
    skipped: int


def _blocks_of(out: np.ndarray, votes: Votes, lane: int) -> Iterator[_Block]:
    key = votes.key.words
    done = 0
    while done < votes.count:
        block, skipped = divmod(votes.first + done, BLOCK)
        count = min(votes.count - done, BLOCK - skipped)
        # NumPy increments the first word as it draws, so the block's number must stand in another:
        # in the first, each block would be a shifted copy of the one before, and votes dependent.
        counter = np.array([0, block, votes.stage, lane], dtype=np.uint64)
        yield _Block(out[done : done + count], key, counter, skipped)
        done += count


def _fill(block: _Block) -> None:
    generator = np.random.Generator(np.random.Philox(key=block.key, counter=block.counter))
    if block.skipped:  # nothing is kept between calls: the beginning of a block is drawn again
        shape = (block.skipped, *block.out.shape[1:])
        generator.standard_normal(shape, dtype=np.float32)
    generator.standard_normal(dtype=np.float32, out=block.out)


class DeviceNoise:
    """A generator in torch's operations, on the device that computes: no core can keep up with a
    fast GPU. Its logarithms and cosines may differ in the last bit between kinds of device.

    Eight draws come from three counters: four words of each give four lengths, of two words, and
    four angles.

    Source: Philox4x32-10, Salmon et al. 2011; Box & Muller 1958.
    """

    name = "torch-philox4x32, lengths of 64 bits"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def draw(self, votes: Sequence[Votes], lane: int, rows: int, shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape))
        host = torch.zeros(4, rows, 1, dtype=torch.int64)  # two words of key, vote, stage; padding
        for some, own in zip(votes, rows_of(votes), strict=True):
            host[:2, own] = torch.from_numpy(
                np.frombuffer(some.key.digest(8), dtype="<u4").astype(np.int64)
            ).view(2, 1, 1)
            host[2, own, 0] = torch.arange(some.first, some.first + some.count)
            host[3, own] = some.stage
        key_low, key_high, vote, stage = host.to(self._device, non_blocking=True)
        element = torch.arange(3 * -(-size // 8), device=self._device)
        lanes = torch.full_like(vote, lane)
        words = torch.stack(philox4x32((element, vote, stage, lanes), (key_low, key_high)), dim=-1)
        high, low, angle = words.unflatten(1, (-1, 3)).unbind(dim=2)
        noise = normals(high, low, angle).flatten(1)[:, :size].reshape(rows, *shape)
        noise[sum(some.count for some in votes) :] = 0.0
        return noise

    def noisy(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        noisy = self.draw(votes, 0, rows, tuple(images[0].shape))
        for own, image in zip(rows_of(votes), images, strict=True):
            noisy[own].mul_(level).add_(image.to(self._device, non_blocking=True))
        return Noisy(noisy)

    def check(self, image: Tensor, index: int) -> None:
        """Takes any."""


def draw_noise(
    key: NoiseKey, count: int, shape: tuple[int, ...], stage: int = 0, lane: int = 0
) -> Tensor:
    """NumPy's draws of the first `count` votes of a stage, float32 (count, C, H, W) on the CPU."""
    return NumpyNoise().draw([Votes(key, stage, 0, count)], lane, count, shape)


def draw_run(
    noise: NoiseSource,
    votes: Sequence[Votes],
    draws: int,
    run: int,
    rows: int,
    shape: tuple[int, ...],
) -> Tensor | None:
    """The draws (draws, B, C, H, W) of one reverse run, on the source's device; None of none.

    Each reverse run has lanes of its own, behind lane 0, the votes' own noise.

    Args:
        votes, rows, shape: the batch, see `NoiseSource.draw`.
        draws: how many of them a reverse run needs.
        run: its number, from 0.
    """
    lanes = range(1 + run * draws, 1 + (run + 1) * draws)
    return torch.stack([noise.draw(votes, lane, rows, shape) for lane in lanes]) if lanes else None
