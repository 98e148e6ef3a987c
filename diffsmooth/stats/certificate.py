"""What certification says of one image."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.bounds import largest_radius

ABSTAIN = -1

SparseCounts = tuple[tuple[int, int], ...]
"""(class, votes) of the classes that got votes, by ascending class."""


class Look(NamedTuple):
    """A look at the estimation votes: of `n` so far, `successes` were for the selected class."""

    n: int
    successes: int


@dataclass(frozen=True)
class Certificate:
    """A prediction of the smoothed classifier and the radius within which it cannot change.

    Attributes:
        prediction: class, or ABSTAIN.
        radius: l2, in [0, 1] pixel units, rounded down; 0.0 when abstaining.
        p_lower: lower confidence bound of the selected class's probability.
        n0: selection votes.
        n: estimation votes.
        votes: all votes used, n0 + n.
        selected: class that the selection votes chose.
        sigma: noise level, [0, 1] pixel units.
        alpha: failure probability.
        selection_counts, estimation_counts: votes a class, sparse.
        looks: at the estimation votes; one of (n, successes) for a fixed-sample plan.
    """

    prediction: int
    radius: float
    p_lower: float
    n0: int
    n: int
    votes: int
    selected: int
    sigma: float
    alpha: float
    selection_counts: SparseCounts
    estimation_counts: SparseCounts
    looks: tuple[Look, ...]

    @property
    def max_radius(self) -> float:
        """The radius, had all estimation votes been for the selected class."""
        return largest_radius(self.sigma, self.n, self.alpha)


def sparse_counts(counts: np.ndarray) -> SparseCounts:
    """Sparse form of votes a class, integers (K,)."""
    return tuple((int(k), int(counts[k])) for k in np.flatnonzero(counts))
