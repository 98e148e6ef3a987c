"""The images at work, and which of their votes go into a batch: the oldest images' first."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource, Noisy, Votes, draw_run, rows_of
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.stats import Certificate, PlanRun


class Task(NamedTuple):
    """An image to certify.

    Attributes:
        image: float32 (C, H, W) in [0, 1], on the CPU.
        key: whose noise its votes use.
        label: true class, for plans that use it.
    """

    image: Tensor
    key: NoiseKey
    label: int | None = None


class Finished(NamedTuple):
    """What became of a task: certificates, or the error that it raised.

    Attributes:
        task: the image.
        certificates: one of f alone, one a setting of several; none where there is an error.
        error: what was raised, or None.
        seconds: its share of the wall-clock time, by its share of each batch.
    """

    task: Task
    certificates: tuple[Certificate, ...]
    error: Exception | None
    seconds: float

    @property
    def certificate(self) -> Certificate | None:
        """That of f alone, None where there is an error."""
        assert len(self.certificates) < 2
        return self.certificates[0] if self.certificates else None


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
    def left(self) -> int:
        """Votes of the present stage that are in no batch yet."""
        return self.runs[0].wanted - self.packed


class PackedBatch(NamedTuple):
    """Rows of a forward pass: `votes[i]` are those of `flights[i]`, in order.

    Their noisy images are being made in the background.
    """

    flights: list[Flight]
    votes: list[Votes]
    noisy: "Future[Noisy]"

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


def draws_ahead(
    f: VoteFunction, noise: NoiseSource, votes: Sequence[Votes], background: Executor
) -> DrawsOfRun:
    """Gives each reverse run's draws for a batch of f's, on f's device, in any order.

    While the draws of one are used, `background` makes those of the next: all would not fit.
    """
    if not f.purifier.draws:
        return lambda run: None

    def begin(run: int) -> "Future[Tensor | None]":
        arguments = (f.purifier.draws, run, f.batch, f.image_shape)
        return background.submit(draw_run, noise, votes, *arguments)

    begun = {0: begin(0)}

    def draws_of(run: int) -> Tensor | None:
        drawn = (begun.pop(run, None) or begin(run)).result()
        begun.clear()
        if run + 1 < f.reverse_runs:
            begun[run + 1] = begin(run + 1)
        return None if drawn is None else drawn.to(f.device, non_blocking=True)

    return draws_of


def check_image(image: Tensor, index: int, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an image is of the shape, on the CPU, finite and in [0, 1]."""
    if tuple(image.shape) != shape or image.device.type != "cpu":
        raise ValueError(
            f"image {index} must be {shape} on the CPU, got {tuple(image.shape)} on {image.device}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image {index} must lie in [0, 1], its values range from {low} to {high}")
