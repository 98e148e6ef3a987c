"""Votes counted on the device: it never waits for the host, nor the host for it."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.packing import Flight
from diffsmooth.models.smoothing.vote_function import Voter

NOT_FINITE, VOID = -2, -1  # columns of the table


class Counts:
    """A table of votes on the device, int64 (slots + 1, settings, K + 2).

    Behind the classes stand those that are not finite, and the void ones, which are for no class.
    The last slot is `trash`, for rows that count for nothing.

    Args:
        voter: whose answers are counted; f alone is one setting.
        slots: images at once.
    """

    def __init__(self, voter: Voter, slots: int) -> None:
        f, settings, classes = voter.f, len(voter.settings), voter.f.num_classes + 2
        self.trash = slots
        self._device = f.device
        shape = (slots + 1, settings or 1, classes)
        self._votes = torch.zeros(shape, dtype=torch.int64, device=f.device)
        self._slot_size = shape[1] * classes
        # Where a setting's counts begin in a slot: beside answers (S, B), or (B,) of f alone.
        self._starts = classes * np.arange(settings)[:, None] if settings else np.int64(0)
        one = torch.ones((), dtype=torch.int64, device=f.device)
        self._ones = one.expand(shape[1] * f.batch)
        self._sent: deque[tuple[list[Flight], Tensor, torch.cuda.Event | None]] = deque()

    def add(self, answers: Tensor, slots: np.ndarray) -> None:
        """Counts answers (B,) or (S, B), 0 .. K + 1 each, in the slots (B,) of their rows."""
        starts = self._to_device(torch.from_numpy(slots * self._slot_size + self._starts))
        self._votes.view(-1).index_add_(0, (starts + answers).view(-1), self._ones)

    def clear(self, slot: int) -> None:
        """Forgets what a slot has counted."""
        self._votes[slot] = 0

    def send(self, flights: list[Flight]) -> None:
        """Sends the counts of flights to the host, and clears them."""
        slots = self._to_device(torch.tensor([flight.slot for flight in flights]))
        counts = self._votes[slots]
        self._votes[slots] = 0
        if self._device.type == "cuda":
            host = torch.empty_like(counts, device="cpu", pin_memory=True)
            counts = host.copy_(counts, non_blocking=True)
        self._sent.append((flights, counts, self.mark()))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Flight, np.ndarray]]:
        """Flights and their counts (settings, K + 2), as they were sent: those that are here.

        Args:
            wait: for the first ones, where they are not.
        """
        while self._sent:
            flights, counts, mark = self._sent[0]
            if mark is not None and not mark.query():
                if not wait:
                    return
                mark.synchronize()
            wait = False
            self._sent.popleft()
            yield from zip(flights, counts.numpy(), strict=True)

    def mark(self) -> torch.cuda.Event | None:
        """An event that has come when the device has done what it was given; None on a CPU."""
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _to_device(self, host: Tensor) -> Tensor:
        if self._device.type == "cuda":
            host = host.pin_memory()
        return host.to(self._device, non_blocking=True)
