"""What a planned run would certify, estimated from few votes an image. Estimates, no certificates.

A bound on few votes lies far below their share, so that few votes certify a radius at a share that
the run to come needs for a larger one. What that run will do depends on the probability of the
label's class: it certifies a radius where its own share reaches a threshold, known beforehand. So
the share of the few votes is held against that threshold.

Whether it reaches it is the plain indicator, and not the posterior chance that the probability
does: the noise of the votes blurs the distribution of the probabilities over images once, and a
posterior would blur it twice. At s >= share * n, s being whole, the indicator tips within half a
vote of the threshold, on either side. By quadrature over mixtures (tests/stats/test_outlook.py) its
bias with 120 votes is 0.005 at most at radius sigma, 0.015 where the probabilities crowd around the
threshold, and up to 0.035 at 1.5 sigma, where a vote weighs more: less than the interval over some
hundred images. (An image that the bound on 120 votes must certify is short by 0.11 to 0.37.)
"""

import math
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.bounds import votes_needed
from diffsmooth.stats.comparison import Interval, mcnemar
from diffsmooth.stats.plans import Plan

LOST_AT_LEAST = 5  # votes that may go to other classes at the threshold, so that it is no extreme
NORMAL_95 = 1.959964


class Goal(NamedTuple):
    """A radius that a planned run shall certify.

    Attributes:
        radius: l2, in [0, 1] pixel units.
        needed: number of the planned run's `n` estimation votes that certifies it.
        n: the most estimation votes of the planned run.
        alpha: failure probability of its certificates.
        plan: its plan, in words.
    """

    radius: float
    needed: int
    n: int
    alpha: float
    plan: str

    @property
    def share(self) -> float:
        """Share of the votes that the label's class must reach."""
        return self.needed / self.n

    @property
    def enough_votes(self) -> int:
        """The fewest votes an image whose share says something at this threshold."""
        return math.ceil(LOST_AT_LEAST * self.n / max(1, self.n - self.needed))

    def reached(self, votes: np.ndarray, total: int) -> np.ndarray:
        """Which of the label's votes, of so many, reach the share: integers to bool, one shape."""
        return votes.astype(np.int64) * self.n >= self.needed * total


def goal_of(plan: Plan, radius: float, sigma: float) -> Goal | None:
    """The goal of certifying a radius; None where no votes of the plan do.

    A plan of several looks may certify at any; taken is its last one, with its level. An
    earlier look needs a larger share, and an image whose share is the threshold's hardly reaches
    that, so that this is all but the plan's own threshold.

    Args:
        plan: the one of the run to come.
        radius: l2, in [0, 1] pixel units, >= 0.
        sigma: noise level, > 0, in [0, 1] pixel units.
    """
    name = plan.name + ", its last look" * (len(plan.looks) > 1)
    needed = votes_needed(plan.n, plan.levels[-1], radius, sigma)
    return None if needed > plan.n else Goal(radius, needed, plan.n, plan.alpha, name)


class Share(NamedTuple):
    """A share of images, and its 95 % interval."""

    value: float
    low: float
    high: float


def share_of(hits: np.ndarray) -> Share:
    """The share of images that are hit, bool (M,), with its Clopper-Pearson interval.

    The interval is over images, of the estimate's mean: the votes' noise is in it, what
    indicators of few votes are biased by is not.
    """
    from scipy.stats import binomtest

    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="exact")
    return Share(float(hits.mean()), float(found.low), float(found.high))


class Contrast(NamedTuple):
    """A share of images less another one, of the same images, and their difference's test.

    Attributes:
        value: the difference.
        interval: its 95 % interval.
        p_value: that of the exact McNemar test that there is none.
    """

    value: float
    interval: Interval
    p_value: float


def contrast_of(hits: np.ndarray, others: np.ndarray) -> Contrast:
    """The contrast of two ways on the same images, bool (M,) each.

    Source: Agresti & Min 2005, simple improved intervals for matched pairs: Wald's with half an
    image added to each of the four cells.
    """
    only, not_in, total = int(np.sum(hits & ~others)), int(np.sum(others & ~hits)), len(hits)
    difference = (only - not_in) / (total + 2)
    spread = (only + not_in + 1) / (total + 2) - difference**2
    half = NORMAL_95 * math.sqrt(spread / (total + 2))
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half))
    return Contrast((only - not_in) / total, interval, mcnemar(only, not_in))
