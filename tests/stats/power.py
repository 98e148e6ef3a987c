"""What the group-sequential plan costs and gives, as a function of the class's probability."""

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

from diffsmooth.stats.bounds import votes_needed
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.many_plays import first_not_futile


class Power(NamedTuple):
    """Of an image whose selected class has a known probability.

    Attributes:
        votes: expected number of votes, selection and estimation.
        certified: float64 (R,), the probability that each of the plan's radii is certified.
    """

    votes: float
    certified: np.ndarray


def sequential_power(plan: GroupSequential, sigma: float, p: float) -> Power:
    """The expected votes and the chances of the radii, by dynamic programming over the looks.

    Args:
        plan: that decides radii (no tolerance).
        sigma: noise level, > 0, in [0, 1] pixel units.
        p: probability of the selected class under the noise, in [0, 1].

    Returns:
        Exact but for rounding, of about 1e-12.

    Raises:
        ValueError: out of range.
    """
    if plan.tolerance is not None:
        raise ValueError(f"the plan must decide radii, got tolerance {plan.tolerance}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    at_the_end = [votes_needed(plan.n, plan.levels[-1], r, sigma) for r in plan.radii]
    count = len(plan.radii)
    alive = np.zeros((count, 1))  # probability of (radii certified so far, successes)
    alive[0, 0] = 1.0
    ended = np.zeros(count + 1)  # by the number of radii certified
    votes, before = float(plan.n0), 0
    for n, level in zip(plan.looks, plan.levels, strict=True):
        votes += float(alive.sum()) * (n - before)
        fresh = binom.pmf(np.arange(n - before + 1), n - before, p)
        alive = fftconvolve(alive, fresh[None], axes=1)
        successes = np.arange(n + 1)
        needed = [votes_needed(n, level, r, sigma) for r in plan.radii]
        reached = np.searchsorted(needed, successes, side="right")
        moved = np.zeros((count + 1, n + 1))
        for certified in range(count):
            moved[np.maximum(certified, reached), successes] += alive[certified]
        # The larger the radius, the sooner it is futile: the smallest undecided one is the last.
        for certified, share in enumerate(np.divide(at_the_end, plan.n)):
            futile = first_not_futile(share, n, plan.futility) if n < plan.n else n + 1
            ended[certified] += moved[certified, :futile].sum()
            moved[certified, :futile] = 0.0
        ended[count] += moved[count].sum()
        alive, before = moved[:count], n
    return Power(votes, ended[::-1].cumsum()[-2::-1])
