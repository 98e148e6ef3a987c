"""Votes counted on the device: it never waits for the host, nor the host for it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.vote_function import Voter


class Sent(NamedTuple):
    """Counts on their way to the host.

    Attributes:
        counts: int64 (images, settings, K + 1).
        arrival: has come when they are there; None on a CPU, where they are.
    """

    counts: Tensor
    arrival: torch.cuda.Event | None

    @property
    def is_here(self) -> bool:
        return self.arrival is None or self.arrival.query()

    def wait(self) -> None:
        """Until they are here."""
        if self.arrival is not None:
            self.arrival.synchronize()


class Counts:
    """A table of votes on the device, int64 (slots + 1, settings, K + 1).

    The last class is "not finite", the last slot `trash`, for rows that count for nothing.

    Args:
        voter: whose answers are counted; f alone is one setting.
        slots: images at once.
    """

    def __init__(self, voter: Voter, slots: int) -> None:
        f, settings, classes = voter.f, len(voter.settings), voter.f.num_classes + 1
        self.trash = slots
        self._device = f.device
        shape = (slots + 1, settings or 1, classes)
        self._votes = torch.zeros(shape, dtype=torch.int64, device=f.device)
        self._slot_size = shape[1] * classes
        # Where a setting's counts begin in a slot: beside answers (S, B), or (B,) of f alone.
        self._starts = classes * np.arange(settings)[:, None] if settings else np.int64(0)
        one = torch.ones((), dtype=torch.int64, device=f.device)
        self._ones = one.expand(shape[1] * f.batch)

    def add(self, answers: Tensor, slots: np.ndarray) -> None:
        """Counts answers (B,) or (S, B), 0 .. K each, in the slots (B,) of their rows."""
        starts = self._to_device(torch.from_numpy(slots * self._slot_size + self._starts))
        self._votes.view(-1).index_add_(0, (starts + answers).view(-1), self._ones)

    def clear(self, slot: int) -> None:
        """Forgets what a slot has counted."""
        self._votes[slot] = 0

    def send(self, slots: list[int]) -> Sent:
        """Sends the counts of slots to the host, and clears them."""
        places = self._to_device(torch.tensor(slots))
        counts = self._votes[places]
        self._votes[places] = 0
        if self._device.type != "cuda":
            return Sent(counts, None)
        host = torch.empty_like(counts, device="cpu", pin_memory=True)
        return Sent(host.copy_(counts, non_blocking=True), self.mark())

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
