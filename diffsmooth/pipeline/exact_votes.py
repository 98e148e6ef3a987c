"""What votes prove, computed again by other means: sums of whole numbers, and 50 digits.

`diffsmooth verify` holds this against what a run has written, so nothing of it is shared with
`stats/bounds.py` and the plans: it follows docs/guarantee.md, and neither SciPy nor a quantile is
used. A bound p is checked forwards: whether so many votes come with probability `level` from p.
"""

import ast
import math
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from mpmath import MPContext

from diffsmooth.shown_text import quoted

mp = MPContext()  # our own: nobody else's digits change
mp.dps = 50
ONE = 1 << 160  # 1 in the sums of whole numbers

WORDS = {
    "FixedSampleSize": "fixed",
    "GroupSequential": "group_sequential",
    "MajorityVote": "majority",
}
DROP = Fraction(85, 100)  # of N: a last look but one beyond it is left out
MOST_VOTES = 10**9  # nobody casts as many for an image
TEST_ROUNDING = 1e-12  # relative, of a p-value in float64

Looks = tuple[tuple[int, int], ...]
"""(votes, successes) at each look."""


class ExactPlan(NamedTuple):
    """A plan, as far as it matters to what votes prove.

    Attributes:
        word: "fixed", "group_sequential" or "majority".
        n0, n: selection votes, and estimation votes at most.
        alpha: failure probability.
        radii: that a sequential plan decides, unless it has a tolerance.
        first_look, tolerance, label_aware: of a sequential plan.
    """

    word: str
    n0: int
    n: int
    alpha: float
    radii: tuple[float, ...] = ()
    first_look: int = 0
    tolerance: float | None = None
    label_aware: bool = False

    @classmethod
    def of_text(cls, text: object) -> "ExactPlan":
        """The plan of a manifest.

        Raises:
            ValueError: it is none of ours.
        """
        try:
            call: Any = ast.parse(str(text), mode="eval").body
            told = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            plan = cls(WORDS[call.func.id], told.pop("n0", 0), **told)
            plan.check()
        except (SyntaxError, ValueError, LookupError, TypeError, AttributeError) as problem:
            raise ValueError(f"plan {quoted(text)} is none that can be checked") from problem
        except (RecursionError, MemoryError) as problem:
            raise ValueError("plan is none that can be checked") from problem
        return plan

    def check(self) -> None:
        """Raises ValueError for numbers that no plan has."""
        shares = (self.alpha, *([] if self.tolerance is None else [self.tolerance]))
        counts = (self.n0, self.n, self.first_look)
        least = (0, 1, int(self.word == "group_sequential"))
        sound = (
            all(type(one) is int and 0 <= one <= MOST_VOTES for one in counts)
            and all(one >= fewest for one, fewest in zip(counts, least, strict=True))
            and all(type(one) is float and 0 < one < 1 for one in shares)
            and type(self.radii) is tuple
            and all(type(one) is float and 0 <= one < math.inf for one in self.radii)
            and type(self.label_aware) is bool
        )
        if not sound:
            raise ValueError("numbers that no plan has")

    @property
    def fields(self) -> Mapping[str, Any]:
        """What each line of the plan's journal says of it, by the names there."""
        sequential = self.word == "group_sequential"
        return {
            "plan": self.word,
            "alpha": self.alpha,
            "max_n": self.n,
            "grid": list(self.radii) if sequential and self.tolerance is None else [],
            "first_look": self.first_look,
            "tolerance": self.tolerance,
        }

    def with_levels(self) -> "tuple[tuple[int, ...], tuple[Any, ...]]":
        """Votes at the looks, rising to n, and the level of each look's bound."""
        return _looks_and_levels(self)


@lru_cache(maxsize=64)
def _looks_and_levels(plan: ExactPlan) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    alpha = mp.mpf(plan.alpha)
    if plan.word != "group_sequential":
        return (plan.n,), (alpha,)
    looks, size = {min(plan.n, plan.first_look)}, Fraction(plan.first_look)
    while max(looks) < plan.n:
        size *= Fraction(5, 4)
        looks.add(min(plan.n, math.ceil(size)))
    rising = sorted(looks)
    if len(rising) > 1 and rising[-2] > DROP * plan.n:
        del rising[-2]
    if len(rising) == 1:
        return (plan.n,), (alpha,)
    roots = [mp.sqrt(n) for n in rising[:-1]]
    early = (alpha / 5 * root / mp.fsum(roots) for root in roots)
    return tuple(rising), (*early, alpha * 4 / 5)


def tail(successes: int, n: int, p: Fraction) -> Any:
    """P(Binomial(n, p) >= successes), to more than 30 digits.

    The terms of the sum are whole numbers of 1 / `ONE`, relative to the first; each follows from
    the one before. They fall, since the side of the mean is summed on which they do.
    """
    if successes <= 0:
        return mp.mpf(1)
    if p <= 0 or successes > n:
        return mp.mpf(0)
    if successes <= n * p:
        return 1 - tail(n - successes + 1, n, 1 - p)
    a, b = p.numerator, p.denominator - p.numerator
    term = total = ONE
    for k in range(successes, n):
        term = term * ((n - k) * a) // ((k + 1) * b)
        if not term:
            break
        total += term
    ways = mp.loggamma(n + 1) - mp.loggamma(successes + 1) - mp.loggamma(n - successes + 1)
    yes, no = mp.mpf(a) / p.denominator, mp.mpf(b) / p.denominator
    first = ways + successes * mp.log(yes) + (n - successes) * mp.log(no)
    return mp.exp(first) * total / ONE


def lowering(bound: Fraction) -> Fraction:
    """By how much a bound is lowered, so that rounding in a quantile never overstates."""
    return min(bound, 1 - bound) / 10**9 + Fraction(1, 2**52)


@lru_cache(maxsize=2**16)
def bound_fault(p_lower: float, looks: Looks, levels: tuple[Any, ...]) -> str:
    """In what a lower bound is not the largest of those of some looks, in words; "" if in nothing.

    A bound L of s votes of n at a level is where s or more come with that probability. It is stored
    lowered, and rounded: that, and no more, is what it may lie below L.
    """
    p = Fraction(p_lower)
    lowered = lowering(p)
    rounding = lowered / 1000 + Fraction(1, 2**52)
    least, most = p + max(lowered - rounding, Fraction(0)), p + lowered + rounding
    if p and not any(
        tail(s, n, least) <= level for (n, s), level in zip(looks, levels, strict=False)
    ):
        return f"is {p_lower!r}, which is more than its votes prove"
    # Below a level of 1/2 a bound lies below the share of its votes.
    more = [
        (n, s, level)
        for (n, s), level in zip(looks, levels, strict=False)
        if level >= 0.5 or s > n * most
    ]
    if any(tail(s, n, most) < level for n, s, level in more):
        return f"is {p_lower!r}, which is less than its votes prove"
    return ""


def largest_bound(n: int, level: Any) -> Any:
    """The bound of n votes of n at a level, not lowered."""
    return mp.exp(mp.log(level) / n)


def float32_or_less(sigma: float) -> Any:
    """The smaller of sigma and what float32 makes of it."""
    return mp.mpf(min(sigma, struct.unpack("f", struct.pack("f", sigma))[0]))


def radius_of(p: Any, sigma: Any) -> Any:
    """sigma Phi^-1(p), 0 where p is 1/2 at most."""
    return sigma * mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1) if p > 0.5 else mp.mpf(0)


def radius_fault(radius: float, p_lower: float, sigma: float) -> str:
    """In what a radius is not that of a lower bound, in words; "" if in nothing."""
    p = mp.mpf(p_lower)
    return _radius_beyond(radius, p, p, sigma)


def _radius_beyond(radius: float, p_least: Any, p_most: Any, sigma: float) -> str:
    """Whether a radius is that of no bound within these, in words.

    It is stored 2^-48 of itself lower, rounded: at least half of that must be left.
    """
    level, half = float32_or_less(sigma), mp.mpf(2) ** -49
    x = mp.mpf(radius) / level
    small = radius < 0 or (p_least > 0.5 and mp.ncdf(x * (1 + 3 * half)) < p_least)
    large = radius > 0 and (p_most <= 0.5 or mp.ncdf(x * (1 + half)) > p_most)
    if not (small or large):
        return ""
    return f"is {radius!r}, p_lower gives {mp.nstr(radius_of(p_most, level), 17)}"


@lru_cache(maxsize=64)
def largest_radius_fault(radius: float, plan: ExactPlan, sigma: float) -> str:
    """In what a radius is not the largest that a plan can give, in words; "" if in nothing."""
    if plan.word == "majority":
        return "" if radius == 0 else f"is {radius!r}, predictions have none"
    bound = largest_bound(plan.n, plan.with_levels()[1][-1])
    lowered = min(bound, 1 - bound) / 10**9 + mp.mpf(2) ** -52
    rounding = lowered / 1000 + mp.mpf(2) ** -52
    p = bound - lowered
    fault = _radius_beyond(radius, p - rounding, p + rounding, sigma)
    return fault.replace("p_lower gives", "the plan can give")


def answer_fault(answered: bool, counts: Sequence[int], alpha: float) -> str:
    """In what PREDICT's answer does not follow from votes, in words; "" if in nothing.

    Args:
        answered: whether it gave the class that is ahead; otherwise it abstained.
        counts: votes a class.
        alpha: failure probability.
    """
    second, top = sorted((0, 0, *counts))[-2:]
    p_value = 1 if top == second else 2 * tail(top, top + second, Fraction(1, 2))
    too_large = p_value > alpha * (1 + mp.mpf(10) ** -20)
    too_small = p_value < alpha * (1 - TEST_ROUNDING)
    if not (too_large if answered else too_small):
        return ""
    found = f"{top} against {second} votes have p = {mp.nstr(p_value, 6)}"
    return f"PREDICT {'abstains' if answered else 'answers'}: {found}"
