"""What the ranks tell each other: by objects over gloo, since ranks hold different numbers."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from diffsmooth.runs.journal import JournalError, merge_records
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError

T = TypeVar("T")
POLL_SECONDS = 0.1


class GatherError(UserError):
    """Not all images came together."""


LOST = "another process ended early; the same command goes on"


class LostRank(GatherError):
    """Another process has ended."""


def from_all_ranks(item: T) -> list[T]:
    """Each rank's item, by rank, on every rank; waits for all."""
    if not is_distributed():
        return [item]
    items: list[T | None] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(items, item)
    except RuntimeError as error:
        raise LostRank(LOST) from error
    return items  # type: ignore[return-value]


def gather_records(
    records: list[ImageRecord], selection: list[int], while_waiting: Callable[[], None]
) -> list[ImageRecord] | None:
    """All ranks' records, merged, on rank zero; None elsewhere. Waits for all ranks.

    Args:
        records: this rank's.
        selection: indices that must be there.
        while_waiting: called again and again until all ranks are here; may raise.

    Raises:
        GatherError: another rank ended early; or (rank zero) an image is missing, or two records
            of one differ.
    """
    rows = records
    if is_distributed():
        # Ranks end hours apart. A blocking collective would not let signal handlers run.
        arrived = dist.barrier(async_op=True)
        while not arrived.is_completed():
            while_waiting()
            time.sleep(POLL_SECONDS)
        parts: list[list[ImageRecord]] | None = None
        try:
            arrived.wait()
            if dist.get_rank() == 0:
                parts = [[] for _ in range(dist.get_world_size())]
            dist.gather_object(records, parts, dst=0)
        except RuntimeError as error:
            raise LostRank(LOST) from error
        if parts is None:
            return None
        rows = [record for part in parts for record in part]
    try:
        merged = merge_records(rows)
    except JournalError as error:
        raise GatherError(str(error)) from error
    missing = sorted(set(selection) - {record.index for record in merged})
    if missing:
        raise GatherError(f"{len(missing)} images are missing, the first is {missing[0]}")
    return merged


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
