"""Which votes of which images go into a batch: the oldest images' first."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from diffsmooth.models.smoothing.noise import Votes, rows_of
from diffsmooth.models.smoothing.task import Task
from diffsmooth.stats import PlanRun


@dataclass(eq=False)
class Flight:
    """A task at work.

    Attributes:
        task: the image.
        runs: the plan's, one of f alone, one a setting of several, which all want the same.
        slot: its row in the table of counts.
        packed: votes of the present stage that have been put into batches.
        launched: those whose batch has run.
        seconds: see `Finished`.
        over: whether it has ended; rows that it still has in batches count for nothing.
    """

    task: Task
    runs: tuple[PlanRun, ...]
    slot: int
    packed: int = 0
    launched: int = 0
    seconds: float = 0.0
    over: bool = False

    @property
    def wanted(self) -> int:
        """Votes of the present stage; 0 when all are through."""
        return self.runs[0].wanted

    @property
    def left(self) -> int:
        """Votes of the present stage that are in no batch yet."""
        return self.runs[0].wanted - self.packed


class Batch(NamedTuple):
    """Rows of a forward pass: `votes[i]` are those of `flights[i]`, in order.

    Attributes:
        flights, votes: whose rows, and which ones.
        noisy: (B, C, H, W), being made in the background.
    """

    flights: list[Flight]
    votes: list[Votes]
    noisy: "Future[Tensor]"

    def shares(self) -> Iterator[tuple[Flight, slice]]:
        """Each flight's rows."""
        return zip(self.flights, rows_of(self.votes), strict=True)


def take_votes(flights: Iterable[Flight], rows: int) -> tuple[list[Flight], list[Votes]]:
    """Takes the next votes of the oldest flights, as many as there are rows, or are left."""
    taken, votes = [], []
    for flight in flights:
        count = min(rows, flight.left)
        if count:
            taken.append(flight)
            votes.append(Votes(flight.task.key, flight.runs[0].stage, flight.packed, count))
            flight.packed += count
            rows -= count
    return taken, votes
