"""A plan at work on one image: votes are asked for, told, and concluded from."""

import math
from typing import TYPE_CHECKING

import numpy as np

from diffsmooth.stats.certificate import Certificate, Look, Votes, sparse_counts

if TYPE_CHECKING:
    from diffsmooth.stats.plans import Plan


class PlanRun:
    """Asks for the selection votes, if there are any, then for those from each look to the next.

    Args:
        plan: the plan.
        sigma: noise level, > 0, in [0, 1] pixel units.
        num_classes: number of classes, at least 2.

    Raises:
        ValueError: out of range.
    """

    def __init__(self, plan: "Plan", sigma: float, num_classes: int) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be > 0 and finite, got {sigma}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self._plan = plan
        self._sigma = float(sigma)
        self._num_classes = num_classes
        self._selections = 1 if plan.n0 else 0
        self._sizes = (*[plan.n0] * self._selections, *np.diff([0, *plan.looks]).tolist())
        self._counts: list[np.ndarray] = []
        self._looks: list[Look] = []

    @property
    def stage(self) -> int:
        """Number of the stream that the wanted votes come from; stages never share a vote."""
        return len(self._counts)

    @property
    def wanted(self) -> int:
        """Votes wanted next; 0 when done."""
        return self._sizes[self.stage] if self.stage < len(self._sizes) else 0

    @property
    def selected(self) -> int:
        """The class that the first votes chose, once they are there."""
        return int(self._counts[0][:-1].argmax())

    def update(self, counts: np.ndarray, void: int = 0) -> None:
        """Takes votes a class, integers (num_classes,), exactly `wanted` in all with the void ones.

        Void votes, of which exact noise may have some, are cast, and for no class.
        """
        counts = np.asarray(counts)
        if counts.shape != (self._num_classes,) or not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                f"counts must be integers ({self._num_classes},), got {counts.dtype} {counts.shape}"
            )
        cast = counts.sum() + void
        if min(counts.min(), void) < 0 or cast != self.wanted:
            raise ValueError(f"counts must be {self.wanted} votes, got {cast}")
        # Sums of narrow integers would wrap around.
        self._counts.append(np.array([*counts, void], dtype=np.int64))
        estimation = self._counts[self._selections :]
        if estimation:
            n, successes = self._looks[-1] if self._looks else (0, 0)
            fresh = estimation[-1]
            self._looks.append(Look(n + int(fresh.sum()), successes + int(fresh[self.selected])))

    @property
    def certificate(self) -> Certificate:
        """The result, once `wanted` is 0."""
        if self.wanted:
            raise ValueError(f"{self.wanted} more votes are wanted before there is a certificate")
        nothing = np.zeros(self._num_classes + 1, dtype=np.int64)
        selection, estimation = (
            sparse_counts(sum(part, start=nothing))
            for part in (self._counts[: self._selections], self._counts[self._selections :])
        )
        return self._plan.conclude(self._sigma, Votes(selection, estimation, tuple(self._looks)))
