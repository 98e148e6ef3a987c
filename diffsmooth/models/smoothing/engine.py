"""Continuous batching: the votes of several images in full forward batches of one fixed shape.

Noise belongs to the vote, not to the batch, so what is packed with what changes nothing.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.counting import NOT_FINITE, VOID, Counts
from diffsmooth.models.smoothing.fixed_function import SPOT_CHECK, check_again, ensure_fixed
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise import NoiseSource, Noisy, Votes
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.packing import (
    Finished,
    Flight,
    PackedBatch,
    Task,
    check_image,
    draws_ahead,
    take_votes,
)
from diffsmooth.models.smoothing.probe_batch import Rows
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, Voter
from diffsmooth.models.words import IN_FLIGHT
from diffsmooth.stats import Certificate, FixedSampleSize, Plan
from diffsmooth.stats.bounds import count_of
from diffsmooth.stats.errors import UserError

AHEAD = 2  # batches packed before they run: one's noise is made while another computes


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
        voter: f, or a sweep of several, whose images end with a certificate each.
        plan: how many votes to ask for; of several f's a fixed number, which is that of all.
        noise: its source; NumPy's floats by default.
        in_flight: images at once, at most. It does not change any result.

    Raises:
        ValueError: in_flight < 1; several f's, and not a `FixedSampleSize`.
        UserError: f is not one fixed function of each image, see `ensure_fixed`.
    """

    def __init__(
        self, voter: Voter, plan: Plan, noise: NoiseSource | None = None, in_flight: int = IN_FLIGHT
    ) -> None:
        in_flight = count_of("in_flight", in_flight)
        if voter.settings and not isinstance(plan, FixedSampleSize):
            raise ValueError(f"several f's share their votes: not possible with plan {plan.name}")
        self._voter = voter
        self._f = voter.f.eval()  # somebody may have put its networks into train mode
        self._fixed = ensure_fixed(self._f)
        self._plan = plan
        self._noise = noise or noise_source("float", self._f.device)
        self._background = ThreadPoolExecutor(1, thread_name_prefix="noise")
        self._flights: list[Flight] = []
        self._free = list(range(in_flight))
        self._counts = Counts(voter, in_flight)
        self._packed: deque[PackedBatch] = deque()
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
            check_image(task.image, task.key.image, self._f.image_shape)
            self._noise.check(task.image, task.key.image)
            runs = tuple(
                self._plan.start(self._f.sigma, self._f.num_classes, task.label)
                for _ in self._voter.settings or (None,)
            )
        except ValueError as error:
            self._finished.append(Finished(task, (), error, 0.0))
            return
        self._flights.append(Flight(task, runs, self._free.pop()))

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
        self._take_in()
        self._pack_ahead()
        if not self._packed:
            self._take_in(wait=True)
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

    def _pack(self) -> PackedBatch:
        """The next votes of the oldest images; their noise is begun in the background."""
        flights, votes = take_votes(self._flights, self._f.batch)
        images = [flight.task.image for flight in flights]
        return PackedBatch(flights, votes, self._background.submit(self._noisy, votes, images))

    @torch.inference_mode()  # of the thread: compiled networks tell such tensors from others
    def _noisy(self, votes: list[Votes], images: list[Tensor]) -> Noisy:
        return self._noise.noisy(votes, images, self._f.noise_level, self._f.batch)

    def _launch(self, batch: PackedBatch) -> None:
        # A GPU takes orders faster than it carries them out.
        while len(self._running) > AHEAD:
            self._running.popleft().synchronize()
        with memory_for(self._f.batch):
            noisy, void = batch.noisy.result()
            noisy = noisy.to(self._f.device, non_blocking=True)
        draws_of = draws_ahead(self._f, self._noise, batch.votes, self._background)
        try:
            answers = self._answer(noisy, void, draws_of)
        except UserError:
            raise
        except Exception as error:
            self._isolate(noisy, void, draws_of, batch, error)
        else:
            self._batches += 1
            if self._batches % SPOT_CHECK == 0:
                check_again(self._f, self._fixed, Rows(noisy, draws_of(0)))
            self._count(answers, batch)
        mark = self._counts.mark()
        if mark is not None:
            self._running.append(mark)
        now = time.perf_counter()
        spent, self._clock = now - self._clock, now
        total = sum(votes.count for votes in batch.votes)
        for flight, votes in zip(batch.flights, batch.votes, strict=True):
            flight.seconds += spent * votes.count / total
            flight.launched += votes.count
        self.votes_cast += total
        through = [f for f in batch.flights if not f.over and f.launched == f.runs[0].wanted]
        if through:
            self._counts.send(through)

    def _answer(self, noisy: Tensor, void: Tensor | None, draws_of: DrawsOfRun) -> Tensor:
        answers = self._voter.answer(noisy, draws_of)
        if void is None:
            return answers
        no_class = torch.where(answers == self._f.num_classes, answers, self._f.num_classes + 1)
        return torch.where(void.to(answers.device), no_class, answers)

    def _count(self, answers: Tensor, batch: PackedBatch, only: Flight | None = None) -> None:
        """Counts the answers of a batch, or of one flight's rows in it."""
        slots = np.full(self._f.batch, self._counts.trash)
        for flight, own in batch.shares():
            if not flight.over and only in (None, flight):
                slots[own] = flight.slot
        self._counts.add(answers, slots)

    def _isolate(
        self,
        noisy: Tensor,
        void: Tensor | None,
        draws_of: DrawsOfRun,
        batch: PackedBatch,
        error: Exception,
    ) -> None:
        """Finds the images that make a forward pass raise; the others' votes count."""
        for flight, own in batch.shares():
            if flight.over:
                continue
            if len(batch.flights) > 1:
                alone = torch.zeros_like(noisy)
                alone[own] = noisy[own]
                try:
                    self._count(self._answer(alone, void, draws_of), batch, flight)
                    continue
                except UserError:
                    raise
                except Exception as its_own:
                    error = its_own
            self._finish(flight, (), error)

    def _take_in(self, wait: bool = False) -> None:
        for flight, counts in self._counts.arrived(wait):
            broken = np.flatnonzero(counts[:, NOT_FINITE])
            if len(broken):
                where = f" at {self._voter.settings[broken[0]]}" if self._voter.settings else ""
                error = NetworkError(f"the networks' output is not finite{where}")
                self._finish(flight, (), error)
                continue
            for run, votes in zip(flight.runs, counts, strict=True):
                cast, void = votes[:NOT_FINITE], int(votes[VOID])
                run.update(cast, void) if void else run.update(cast)
            flight.packed = flight.launched = 0
            if not flight.runs[0].wanted:
                self._finish(flight, tuple(run.certificate for run in flight.runs), None)

    def _finish(
        self, flight: Flight, certificates: tuple[Certificate, ...], error: Exception | None
    ) -> None:
        flight.over = True
        self._counts.clear(flight.slot)  # what a failed one had counted is not its successor's
        self._flights.remove(flight)
        self._free.append(flight.slot)
        self._finished.append(Finished(flight.task, certificates, error, flight.seconds))
