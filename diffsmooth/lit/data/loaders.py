"""Loaders that Lightning may start early, and which images a device validates and tests on."""

import math
import multiprocessing.reduction
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.images import DataError, Sample

MOST_ROWS = 128
NUMBERS = 2**22  # of a batch of images: 21 of 3 x 256 x 256


class LazyLoader(DataLoader[Sample]):
    """A loader whose processes are asked for nothing before the first batch is wanted.

    Lightning makes the iterator before it tells the sampler the epoch of a training that goes on;
    torch's would at once ask for what belongs to epoch 0.

    It has a state, if an empty one, which tells Lightning that a training can go on from the middle
    of an epoch: `TrainingOrder` leaves out what the trainer says it has had.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # not torch's own class
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is in it."""


def _begin(worker: int) -> None:
    # What a loader's process begins with: Ctrl-C, which all processes get, is not for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The thread that shares batches is started by the first thing shared. Where that is a batch and
    # there is no room for a thread, it is lost, and its training waits for it for ever.
    if torch.multiprocessing.get_sharing_strategy() == "file_descriptor":
        with open(os.devnull) as nothing:
            multiprocessing.reduction.DupFd(nothing.fileno())


def make_loader(
    images: Dataset[Sample], rows: int, sampler: Sampler[Any], workers: int, pinned: bool
) -> LazyLoader:
    """The loader of a sampler's images, `rows` a batch, by so many processes (0: by this one)."""
    return LazyLoader(
        images,
        batch_size=rows,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=_begin,
        persistent_workers=workers > 0,
        pin_memory=pinned,
    )


def evaluation_rows(images: Dataset[Sample]) -> int:
    """Rows of a forward pass of validation and test, by the images' size alone.

    Kernels give other low bits at other batch shapes, so it must not depend on what a training on
    more devices changes, as the batch size.
    """
    size = images[0].image.shape[-3:].numel()
    return max(1, min(MOST_ROWS, NUMBERS // size))


def most_batches(option: str, limit: int | float | None, devices: int) -> int | None:
    """How many batches of all devices an option of Lightning's wants at most; None: all.

    Raises:
        DataError: a share of them, on several devices.
    """
    if isinstance(limit, float) and limit < 1 and devices > 1:
        raise DataError(
            f"{option} {limit} is a share of each device's batches, so that the result would "
            "depend on how many there are: give the number of batches of all devices together"
        )
    return limit if isinstance(limit, int) and limit > 0 else None  # 0: none is asked for


class WholeBatches(DistributedSampler[Sample]):
    """Deals the batches of an unshuffled data set to the ranks in turn, each batch whole.

    All ranks get as many: where the batches do not go round, the first ones are dealt once more,
    or ranks without a batch would leave the others waiting. What is measured on them must count
    each image once; see `MeanOverImages`. (torch's own sampler deals single images, so that each
    batch depends on the number of ranks.)

    Args:
        rows: images a batch, the loader's batch size; the last batch may have fewer.
        most: batches in all.
        num_replicas, rank: how many ranks there are, and which is this.
    """

    def __init__(
        self, images: Dataset[Sample], rows: int, most: int | None, num_replicas: int, rank: int
    ) -> None:
        super().__init__(images, num_replicas, rank, shuffle=False)
        total: int = len(images)  # type: ignore[arg-type]
        starts = range(0, total, rows)[:most]
        share = math.ceil(len(starts) / num_replicas)
        # The short batch, if there is one, is the last of its rank's: the loader cuts at `rows`.
        own = [starts[(rank + k * num_replicas) % len(starts)] for k in range(share)]
        self._indices = [i for start in own for i in range(start, min(start + rows, total))]

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # of indices, as torch's
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
