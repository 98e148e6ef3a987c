"""What votes tell: bounds of a probability, the radius that one certifies, the class ahead."""

import math
import operator
from bisect import bisect_left
from functools import lru_cache
from numbers import Real
from typing import SupportsIndex

import numpy as np

from diffsmooth.stats.certificate import ABSTAIN

MOST_VOTES = 10**9  # nobody casts as many for an image


def lower_confidence_bound(successes: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson lower bound, rounded down.

    With probability at least 1 - alpha over `successes` ~ Binomial(n, p), the bound is <= p.

    Args:
        successes: in 0 .. n.
        n: number of independent votes, at least 1.
        alpha: failure probability, in (0, 1).

    Returns:
        BetaInv(alpha; s, n - s + 1), lowered by 1e-9 * min(L, 1 - L) + 2**-52 so that rounding in
        the quantile never overstates; in [0, 1).

    Raises:
        ValueError: an argument out of range.

    Source: Clopper & Pearson 1934; Cohen et al. 2019, section 3.2.2 (LowerConfBound).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in 0 .. {n}, got {successes}")
    check_alpha(alpha)
    if successes == 0:
        return 0.0
    others = n - successes
    bound = _quantile(successes, others + 1, alpha) if others else alpha ** (1.0 / n)
    return max(0.0, bound - _lowering(bound))


def _lowering(bound: float) -> float:
    return 1e-9 * min(bound, 1.0 - bound) + 2.0**-52


def _quantile(a: int, b: int, alpha: float) -> float:
    """BetaInv(alpha; a, b), to a thousandth of `_lowering`.

    SciPy's inverse strays further in places (1.17 at b = 1,000: the tail at its bound is 1.04 alpha
    of 10^8 votes), its function does not: then Newton's method on the tail's logarithm.
    """
    from scipy.special import betainc, betaincinv, betaln

    x = float(betaincinv(a, b, alpha))
    near = _lowering(x) / 1000
    if not betainc(a, b, max(x - near, 0.0)) <= alpha <= betainc(a, b, min(x + near, 1.0)):
        for _ in range(8):
            tail = float(betainc(a, b, x))
            if not tail:  # floats hardly tell such a level from 0
                return 0.0
            log_density = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - betaln(a, b)
            x -= math.log(tail / alpha) * math.exp(math.log(tail) - log_density)
    return x


def upper_confidence_bound(successes: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson upper bound, not rounded; 1 where alpha is 0."""
    from scipy.special import betaincinv

    if successes == n or alpha == 0:
        return 1.0
    return float(betaincinv(successes + 1, n - successes, 1 - alpha))


def certified_radius(p_lower: float, sigma: float) -> float:
    """Radius within which the smoothed classifier is constant: sigma * Phi^-1(p_lower).

    Args:
        p_lower: lower bound of the top class's probability, in [0, 1).
        sigma: noise level, > 0; where float32 makes less of it, that counts, see `least_sigma`.

    Returns:
        l2, in the units of sigma ([0, 1] pixel units), rounded down; 0.0 where p_lower <= 1/2.

    Source: Cohen et al. 2019, theorem 1 with p_B <= 1 - p_A.
    """
    from scipy.special import ndtri

    if p_lower <= 0.5:
        return 0.0
    # Phi^-1 is good to a few units in the last place; 2**-48 is sixteen of them.
    return least_sigma(sigma) * float(ndtri(p_lower)) * (1.0 - 2.0**-48)


def least_sigma(sigma: float) -> float:
    """The smaller of sigma and the level at which float32 noise is drawn, float32(sigma).

    For 0.12 that is 2.7e-9 less: noise of that level certifies so much less.
    """
    with np.errstate(over="ignore"):
        return min(float(sigma), float(np.float32(sigma)))


def largest_radius(sigma: float, n: int, alpha: float) -> float:
    """The largest radius that `n` votes at level `alpha` can certify; all n for one class.

    Args:
        sigma: noise level, > 0, in [0, 1] pixel units.
        n: estimation votes, at least 1.
        alpha: failure probability, in (0, 1).
    """
    return certified_radius(lower_confidence_bound(n, n, alpha), sigma)


def votes_to_reach(radius: float, sigma: float, alpha: float) -> float:
    """The fewest estimation votes whose `largest_radius` is at least `radius`.

    Args:
        radius: l2, in the units of sigma, > 0.
        sigma: noise level, > 0.
        alpha: failure probability, in (0, 1).

    Returns:
        log(alpha) / log Phi(radius / sigma), rounded up; infinite beyond `MOST_VOTES`.
    """
    from scipy.special import log_ndtr

    log_p = float(log_ndtr(radius / least_sigma(sigma)))
    if math.log(alpha) < MOST_VOTES * log_p:
        return math.inf
    votes = math.ceil(math.log(alpha) / log_p)
    while largest_radius(sigma, votes, alpha) < radius:  # bounds are rounded down
        votes += 1
    return votes


@lru_cache(maxsize=2**16)
def votes_needed(n: int, level: float, radius: float, sigma: float) -> int:
    """The fewest of `n` votes whose bound at `level` certifies a radius; n + 1 if none does."""

    def enough(successes: int) -> bool:
        bound = lower_confidence_bound(successes, n, level)
        return bound > 0.5 and certified_radius(bound, sigma) >= radius

    return bisect_left(range(n + 1), True, key=enough)


def predict_from_counts(counts: np.ndarray, alpha: float) -> int:
    """The smoothed classifier's class, or ABSTAIN.

    Args:
        counts: votes a class, integers (K,) with K >= 2.
        alpha: with at most this probability it answers, and with another class than the smoothed
            classifier's; in (0, 1).

    Returns:
        The top class if the two-sided binomial test against the runner-up rejects a tie at level
        alpha, else ABSTAIN. Without votes it abstains.

    Raises:
        ValueError: alpha out of range, or fewer than two classes.

    Source: Cohen et al. 2019, section 3.2.1, PREDICT.
    """
    from scipy.stats import binomtest

    check_alpha(alpha)
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"counts must be (K,) with K >= 2, got shape {counts.shape}")
    second, top = np.argsort(counts, kind="stable")[-2:]
    both = int(counts[top] + counts[second])
    if both == 0 or binomtest(int(counts[top]), both, 0.5).pvalue > alpha:
        return ABSTAIN
    return int(top)


def votes_to_answer(alpha: float) -> int:
    """The fewest votes, all for one class, of which PREDICT gives an answer at level `alpha`.

    n votes of one class have the two-sided p-value 2 * 0.5**n.
    """
    check_alpha(alpha)
    return max(1, math.ceil(1 - math.log2(alpha)))


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")


def number_of(name: str, value: object) -> float:
    """A real number as a float.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def count_of(name: str, value: SupportsIndex) -> int:
    """A whole number of at least 1, of Python's or NumPy's, as Python's.

    Raises:
        ValueError: it is none; `name` says of what.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count
