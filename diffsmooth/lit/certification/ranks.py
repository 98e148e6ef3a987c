"""What the ranks tell each other: by objects over gloo, since ranks hold different numbers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist

from diffsmooth.stats.errors import UserError

T = TypeVar("T")
POLL_SECONDS = 0.1


class LostRank(UserError):
    """Another process has ended.

    Args:
        message: what is said of it.
        told: exit code of the one that has said itself what was wrong, if there is one.
    """

    def __init__(self, message: str, told: int | None = None) -> None:
        super().__init__(message)
        self.told = told


@contextmanager
def connected() -> Iterator[None]:
    """Around what the ranks do together; LostRank where one is gone."""
    try:
        yield
    except RuntimeError as error:
        raise LostRank("another process ended early; the same command goes on") from error


def from_all_ranks(item: T) -> list[T]:
    """Each rank's item, by rank, on every rank; waits for all."""
    if not is_distributed():
        return [item]
    items: list[T | None] = [None] * dist.get_world_size()
    with connected():
        dist.all_gather_object(items, item)
    return items  # type: ignore[return-value]


def to_rank_zero(item: T) -> list[T]:
    """Each rank's item, by rank, on rank zero; nothing on the others. Waits for all."""
    if not is_distributed():
        return [item]
    is_zero = dist.get_rank() == 0
    items: list[T | None] | None = [None] * dist.get_world_size() if is_zero else None
    with connected():
        dist.gather_object(item, items)
    return items or []  # type: ignore[return-value]


def alike(act: Callable[[], T]) -> list[T]:
    """What `act` gives on each rank, on every rank; where it fails on one, all fail alike.

    Raises:
        UserError: on all ranks, what the first rank's said, and which rank that was.
    """
    made: tuple[T | None, str]
    try:
        made = act(), ""
    except UserError as error:
        made = None, str(error)
    said = from_all_ranks(made)
    for rank, (_, problem) in enumerate(said):
        if problem:
            raise UserError(f"rank {rank}: {problem}" if rank else problem)
    return [item for item, _ in said]  # type: ignore[misc]


def wait_for_all_ranks(while_waiting: Callable[[], object]) -> None:
    """Ranks end hours apart. A blocking collective would not let signal handlers run.

    Args:
        while_waiting: called again and again until all ranks are here; may raise.
    """
    if is_distributed():
        arrived = dist.barrier(async_op=True)
        while not arrived.is_completed():
            while_waiting()
            time.sleep(POLL_SECONDS)
        with connected():
            arrived.wait()


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
