"""Many plays of a plan at once: the votes that images of known shares take.

A share is the probability of an image's selected class under the noise. A plan plays an image at a
time (`Plan.start`); this plays 100,000 images in a second, and stops each where the plan would.
"""

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from diffsmooth.stats.bounds import (
    certified_radius,
    lower_confidence_bound,
    upper_confidence_bound,
    votes_needed,
)

if TYPE_CHECKING:
    from diffsmooth.stats.group_sequential import GroupSequential
    from diffsmooth.stats.plans import Plan


def play(plan: "Plan", sigma: float, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Votes that images take after their selection, int64 (R,).

    Args:
        plan: one that tells its `stopping_rule`; label-aware or not matters before, not here.
        sigma: noise level, > 0, in [0, 1] pixel units.
        shares: float64 (R,), in [0, 1].
        rng: generator of the votes.
    """
    votes = np.full(len(shares), plan.n, dtype=np.int64)
    stops = plan.stopping_rule(sigma, len(shares))
    if stops is None:
        return votes
    alive = np.arange(len(shares))
    successes = np.zeros(len(shares), dtype=np.int64)
    for k, (before, n) in enumerate(pairwise((0, *plan.looks))):
        successes += rng.binomial(n - before, shares[alive])
        stopped = stops.after(k, successes, alive)
        votes[alive[stopped]] = n
        alive, successes = alive[~stopped], successes[~stopped]
    return votes


class StoppingRule:
    """When a sequential plan stops, for one image or many at once.

    Args:
        plan: the one whose rule it is.
        sigma: noise level, > 0, in [0, 1] pixel units.
        images: number of images, R.
    """

    def __init__(self, plan: "GroupSequential", sigma: float, images: int) -> None:
        self._plan = plan
        self._sigma = sigma
        radii = plan.radii if plan.tolerance is None else (0.0,)
        self._radii = radii
        # Of the votes at the end, those that certify each radius.
        self._at_the_end = [votes_needed(plan.n, plan.levels[-1], r, sigma) for r in radii]
        self._reached = np.zeros(images, dtype=np.int64)  # radii certified; they ascend
        self._p_lower = np.zeros(images)  # of plans with a tolerance

    def after(self, k: int, successes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Whether images stop at look k (from 0); bool, as many as `images`.

        Args:
            k: the looks of an image come one after another.
            successes: int64, of the votes up to look k.
            images: int64, their numbers in 0 .. R - 1, each once.
        """
        plan, sigma = self._plan, self._sigma
        n, level = plan.looks[k], plan.levels[k]
        if n == plan.n:
            return np.ones(len(images), dtype=bool)
        needed = [votes_needed(n, level, radius, sigma) for radius in self._radii]
        reached = np.maximum(self._reached[images], np.searchsorted(needed, successes, "right"))
        self._reached[images] = reached
        # The larger the radius, the sooner it is futile: the smallest undecided one is the last.
        futile = [first_not_futile(votes / plan.n, n, plan.futility) for votes in self._at_the_end]
        stopped = successes < np.array([*futile, n + 1])[reached]
        if plan.tolerance is None:
            return stopped  # none is undecided: stopped whatever the successes
        bounds = _of_each(successes, lambda s: lower_confidence_bound(s, n, level))
        self._p_lower[images] = np.maximum(self._p_lower[images], bounds)
        certified = reached > 0
        stopped[certified] = self._is_near_the_end(n, successes[certified], images[certified])
        return stopped

    def _is_near_the_end(self, n: int, successes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Whether radii are within the tolerance of those that all votes would give."""
        plan, sigma = self._plan, self._sigma
        assert plan.tolerance is not None
        share = 1 - plan.tolerance

        def wanted(s: int) -> float:
            at_the_end = lower_confidence_bound(s * plan.n // n, plan.n, plan.alpha)
            return share * certified_radius(at_the_end, sigma)

        radii = _of_each(self._p_lower[images], lambda p: certified_radius(p, sigma))
        return radii >= _of_each(successes, wanted)


@lru_cache(maxsize=2**16)
def first_not_futile(share: float, n: int, level: float) -> int:
    """The fewest successes of n whose upper bound is not below a share: fewer are futile."""
    return bisect_left(range(n + 1), share, key=lambda s: upper_confidence_bound(s, n, level))


def _of_each(values: np.ndarray, function: Callable[..., float]) -> np.ndarray:
    """float64 (R,) of (R,); a value that comes often is computed once."""
    distinct, places = values, np.arange(len(values))
    if len(values) > 1:
        distinct, places = np.unique(values, return_inverse=True)
    return np.array([function(value) for value in distinct.tolist()], dtype=np.float64)[places]
