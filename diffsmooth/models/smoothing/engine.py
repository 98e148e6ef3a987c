"""Continuous batching: the votes of several images in full forward batches of one fixed shape.

Noise belongs to the vote, not to the batch, so what is packed with what changes nothing.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.draws import draws_of_runs
from diffsmooth.models.smoothing.fixed_function import SPOT_CHECK, check_again, ensure_fixed
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource, Votes, noise_source, rows_of
from diffsmooth.models.smoothing.probe_batch import Rows
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.models.words import IN_FLIGHT
from diffsmooth.stats import Certificate, Plan, PlanRun
from diffsmooth.stats.errors import UserError

AHEAD = 2  # batches packed before they run: one's noise is made while another computes


class Task(NamedTuple):
    """An image to certify.

    Attributes:
        image: float32 (C, H, W) in [0, 1], on the CPU.
        key: of its noise.
        label: true class, for plans that use it.
    """

    image: Tensor
    key: NoiseKey
    label: int | None = None


class Finished(NamedTuple):
    """What became of a task: a certificate, or the error that it raised.

    Attributes:
        seconds: its share of the wall-clock time, by its share of each batch.
    """

    task: Task
    certificate: Certificate | None
    error: Exception | None
    seconds: float


@dataclass(eq=False)
class Flight:
    """A task at work.

    Attributes:
        slot: its row in the table of counts.
        packed: votes of the present stage that have been put into batches.
        launched: those whose batch has run.
        over: whether it has ended; rows that it still has in batches count for nothing.
    """

    task: Task
    run: PlanRun
    slot: int
    packed: int = 0
    launched: int = 0
    seconds: float = 0.0
    over: bool = False

    @property
    def left(self) -> int:
        """Votes of the present stage that are in no batch yet."""
        return self.run.wanted - self.packed


class Batch(NamedTuple):
    """Rows of a forward pass: `votes[i]` are those of `flights[i]`, in order.

    Attributes:
        noisy: (B, C, H, W), being made in the background.
    """

    flights: list[Flight]
    votes: list[Votes]
    noisy: "Future[Tensor]"


class Counted(NamedTuple):
    """Counts (flights, K + 1) of finished stages on their way to the host."""

    flights: list[Flight]
    counts: Tensor
    arrival: torch.cuda.Event | None

    @property
    def is_here(self) -> bool:
        return self.arrival is None or self.arrival.query()


class VoteEngine:
    """Drives a plan's runs on many images::

        with VoteEngine(f, plan) as engine:
            for task in tasks:
                engine.submit(task)
                while not engine.needs_task:
                    finished += engine.step()
            finished += engine.drain()

    Older images come first. The counts stay on the device until a stage of the plan is through, and
    the device need not wait for them while another image has votes to cast.

    Args:
        f: what votes.
        plan: how many votes to ask for.
        noise: its source; NumPy's on the CPU by default.
        in_flight: images at once, at most. It does not change any result.

    Raises:
        ValueError: in_flight < 1.
        UserError: f is not one fixed function of each image, see `ensure_fixed`.
    """

    def __init__(
        self,
        f: VoteFunction,
        plan: Plan,
        noise: NoiseSource | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")
        self._f = f.eval()  # somebody may have put its networks into train mode
        self._fixed = ensure_fixed(f)
        self._plan = plan
        self._device = f.device
        self._shape = tuple(f.local_smoothing.noise.shape[1:])
        self._noise = noise or noise_source("numpy", self._device)
        self._background = ThreadPoolExecutor(1, thread_name_prefix="noise")
        self._flights: list[Flight] = []
        self._free = list(range(in_flight))
        self._trash = in_flight  # the slot of rows that count for nothing
        # The last class is "not finite".
        shape = (in_flight + 1, f.num_classes + 1)
        self._counts = torch.zeros(shape, dtype=torch.int64, device=self._device)
        self._one = torch.ones((), dtype=torch.int64, device=self._device).expand(f.batch)
        self._packed: deque[Batch] = deque()
        self._on_their_way: deque[Counted] = deque()
        self._running: deque[torch.cuda.Event] = deque()
        self._finished: list[Finished] = []
        self._clock = time.perf_counter()
        self._batches = 0
        self.votes_cast = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.shutdown(cancel_futures=True)

    def submit(self, task: Task) -> None:
        """Takes an image in. A broken one ends as `Finished` with an error.

        The caller sees to it that there is room: `needs_task`, or nothing is in flight.
        """
        if self.is_idle:
            self._clock = time.perf_counter()
        try:
            check_image(task.image, task.key.image, self._shape)
            run = self._plan.start(self._f.sigma, self._f.num_classes, task.label)
        except ValueError as error:
            self._finished.append(Finished(task, None, error, 0.0))
            return
        self._flights.append(Flight(task, run, self._free.pop()))

    @property
    def needs_task(self) -> bool:
        """Whether the images in flight do not fill the next batch, and there is room for one."""
        return bool(self._free) and len(self._packed) < AHEAD and self._left < self._f.batch

    @property
    def _left(self) -> int:
        """Votes that the images in flight want and no batch has yet."""
        return sum(flight.left for flight in self._flights)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._flights and not self._finished

    def drain(self) -> Iterator[Finished]:
        """Finishes what is in flight."""
        while not self.is_idle:
            yield from self.step()

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Runs one batch, full where the images in flight suffice, and takes in what has arrived.

        Raises:
            NetworkError: the networks do not fit: no image can be certified.
            OutOfMemory: nor can it where the batch does not fit.
            UserError: a spot check finds that f is not what it was.
        """
        while self._on_their_way and self._on_their_way[0].is_here:
            self._take_in(self._on_their_way.popleft())
        self._pack_ahead()
        if not self._packed and self._on_their_way:
            counted = self._on_their_way.popleft()
            assert counted.arrival is not None
            counted.arrival.synchronize()
            self._take_in(counted)
            self._pack_ahead()
        if not self._packed and self._left:
            self._packed.append(self._pack())
        if self._packed:
            self._launch(self._packed.popleft())
        finished, self._finished = self._finished, []
        return finished

    def _pack_ahead(self) -> None:
        while len(self._packed) < AHEAD and self._left >= self._f.batch:
            self._packed.append(self._pack())

    def _pack(self) -> Batch:
        """Takes votes from the oldest images first; their noise is begun in the background."""
        flights, votes, room = [], [], self._f.batch
        for flight in self._flights:
            count = min(room, flight.left)
            if count:
                flights.append(flight)
                votes.append(Votes(flight.task.key, flight.run.stage, flight.packed, count))
                flight.packed += count
                room -= count
        images = [flight.task.image for flight in flights]
        arguments = (votes, images, self._f.noise_level, self._f.batch)
        return Batch(flights, votes, self._background.submit(self._noise.noisy, *arguments))

    def _launch(self, batch: Batch) -> None:
        # A GPU takes orders faster than it carries them out.
        while len(self._running) > AHEAD:
            self._running.popleft().synchronize()
        with memory_for(self._f.batch):
            noisy = batch.noisy.result().to(self._device, non_blocking=True)
        try:
            answers = self._answer(noisy, batch)
        except UserError:
            raise
        except Exception as error:
            self._isolate(noisy, batch, error)
        else:
            self._batches += 1
            if self._batches % SPOT_CHECK == 0:
                check_again(self._f, self._fixed, Rows(noisy, self._draws_of(batch)(0)))
            self._count(answers, batch, set(batch.flights))
        mark = self._mark()
        if mark is not None:
            self._running.append(mark)
        now = time.perf_counter()
        spent, self._clock = now - self._clock, now
        total = sum(votes.count for votes in batch.votes)
        for flight, votes in zip(batch.flights, batch.votes, strict=True):
            flight.seconds += spent * votes.count / total
            flight.launched += votes.count
        self.votes_cast += total
        through = [f for f in batch.flights if not f.over and f.launched == f.run.wanted]
        if through:
            self._send_counts(through)

    def _answer(self, noisy: Tensor, batch: Batch) -> Tensor:
        return self._f.answer(noisy, self._draws_of(batch))

    def _draws_of(self, batch: Batch) -> DrawsOfRun:
        return draws_of_runs(
            self._f.purifier,
            self._noise,
            batch.votes,
            self._f.batch,
            self._shape,
            self._device,
            self._background,
        )

    def _count(self, answers: Tensor, batch: Batch, counted: set[Flight]) -> None:
        """Adds the answers (B,) of the rows of some flights to their counts."""
        slots = np.full(self._f.batch, self._trash)
        for flight, own in zip(batch.flights, rows_of(batch.votes), strict=True):
            if flight in counted and not flight.over:
                slots[own] = flight.slot
        places = self._to_device(torch.from_numpy(slots)) * self._counts.shape[1] + answers
        self._counts.view(-1).index_add_(0, places, self._one)

    def _to_device(self, host: Tensor) -> Tensor:
        if self._device.type == "cuda":
            host = host.pin_memory()
        return host.to(self._device, non_blocking=True)

    def _mark(self) -> torch.cuda.Event | None:
        """An event that has come when the device has done what it was given; None on a CPU."""
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _isolate(self, noisy: Tensor, batch: Batch, error: Exception) -> None:
        """Finds the images that make a forward pass raise; the others' votes count."""
        for flight, own in zip(batch.flights, rows_of(batch.votes), strict=True):
            if flight.over:
                continue
            if len(batch.flights) > 1:
                alone = torch.zeros_like(noisy)
                alone[own] = noisy[own]
                try:
                    self._count(self._answer(alone, batch), batch, {flight})
                    continue
                except UserError:
                    raise
                except Exception as its_own:
                    error = its_own
            self._finish(flight, None, error)

    def _send_counts(self, flights: list[Flight]) -> None:
        slots = self._to_device(torch.tensor([flight.slot for flight in flights]))
        counts = self._counts[slots]
        self._counts[slots] = 0
        arrival = None
        if self._device.type == "cuda":
            counts = torch.empty_like(counts, device="cpu", pin_memory=True).copy_(
                counts, non_blocking=True
            )
            arrival = self._mark()
        self._on_their_way.append(Counted(flights, counts, arrival))

    def _take_in(self, counted: Counted) -> None:
        for flight, counts in zip(counted.flights, counted.counts.numpy(), strict=True):
            if counts[-1]:
                self._finish(flight, None, NetworkError("the networks' output is not finite"))
                continue
            flight.run.update(counts[:-1])
            flight.packed = flight.launched = 0
            if not flight.run.wanted:
                self._finish(flight, flight.run.certificate, None)

    def _finish(
        self, flight: Flight, certificate: Certificate | None, error: Exception | None
    ) -> None:
        flight.over = True
        self._counts[flight.slot] = 0  # what a failed one had counted is not its successor's
        self._flights.remove(flight)
        self._free.append(flight.slot)
        self._finished.append(Finished(flight.task, certificate, error, flight.seconds))


def check_image(image: Tensor, index: int, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an image is of the shape, on the CPU, finite and in [0, 1]."""
    if tuple(image.shape) != shape or image.device.type != "cpu":
        raise ValueError(
            f"image {index} must be {shape} on the CPU, got {tuple(image.shape)} on {image.device}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image {index} must lie in [0, 1], its values range from {low} to {high}")
