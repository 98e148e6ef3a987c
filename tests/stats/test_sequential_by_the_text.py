"""GroupSequential against a second implementation, written naively from the design's words."""

import math
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from diffsmooth.stats import GroupSequential


class Outcome(NamedTuple):
    looks: list[tuple[int, int]]
    p_lower: float
    radius: float


def lower(successes: int, n: int, alpha: float) -> float:
    if successes == 0:
        return 0.0
    bound = alpha ** (1 / n) if successes == n else beta.ppf(alpha, successes, n - successes + 1)
    return bound - 1e-9 * min(bound, 1 - bound) - 2**-52


def looks_of(n: int, first: int) -> list[int]:
    """n_k = min(N, ceil(first * 1.25^(k-1))), the penultimate dropped if > 0.85 N."""
    looks = sorted({min(n, math.ceil(first * Fraction(5, 4) ** k)) for k in range(80)})
    if len(looks) > 1 and looks[-2] > Fraction(85, 100) * n:
        del looks[-2]
    return looks


@cache
def share_needed(n: int, level: float, radius: float, sigma: float) -> float:
    p = norm.cdf(radius / sigma)
    bounds = [lower(s, n, level) for s in range(n + 1)]
    enough = [s for s in range(n + 1) if bounds[s] > 0.5 and bounds[s] >= p]
    return enough[0] / n if enough else math.inf


def certify(plan: GroupSequential, sigma: float, votes: np.ndarray) -> Outcome:
    looks = looks_of(plan.n, plan.first_look)
    roots = [math.sqrt(n) for n in looks[:-1]]
    levels = [0.2 * plan.alpha * root / sum(roots) for root in roots] + [0.8 * plan.alpha]
    if len(looks) == 1:
        levels = [plan.alpha]
    best, seen = 0.0, []
    for n, level in zip(looks, levels, strict=True):
        s = int(votes[:n].sum())
        seen.append((n, s))
        best = max(best, lower(s, n, level))
        radius = sigma * norm.ppf(best) if best > 0.5 else 0.0
        upper = 1.0
        if s < n and len(looks) > 1:
            upper = beta.ppf(1 - 0.01 / (len(looks) - 1), s + 1, n - s)

        def futile(r: float, upper: float = upper) -> bool:
            return upper < share_needed(plan.n, levels[-1], r, sigma)

        if plan.tolerance is None:
            stop = all((best > 0.5 and radius >= r) or futile(r) for r in plan.radii)
        elif best > 0.5:
            predicted = lower(math.floor(Fraction(s, n) * plan.n), plan.n, plan.alpha)
            stop = radius >= (1 - plan.tolerance) * sigma * max(norm.ppf(predicted), 0.0)
        else:
            stop = futile(0.0)
        if stop:
            break
    return Outcome(seen, best, radius)


@st.composite
def paths(draw: st.DrawFn, n: int) -> np.ndarray:
    """n votes whose probability may change on the way: the rules must agree on any votes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    change = draw(st.integers(0, n))
    p = np.where(np.arange(n) < change, draw(st.floats(0, 1)), draw(st.floats(0.4, 1)))
    return (rng.random(n) < p).astype(int)


PLANS = [
    GroupSequential(n=14, alpha=0.1, first_look=2, radii=(0.0, 0.4)),
    GroupSequential(n=90, radii=(0.0, 0.5)),  # one look
    GroupSequential(n=300, alpha=0.05, first_look=1, radii=(0.0, 0.25, 0.5, 2.0)),
    GroupSequential(n=301, alpha=0.01, radii=(0.3,), label_aware=True),
    GroupSequential(n=500, first_look=40, tolerance=0.05),
    GroupSequential(n=200, first_look=5, alpha=0.3, tolerance=0.1),
    GroupSequential(n=400, first_look=10, alpha=0.01, tolerance=0.3, label_aware=True),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"n{plan.n}")
@settings(max_examples=25)
@given(data=st.data(), sigma=st.sampled_from([0.12, 0.25, 0.5, 1.0]), selected=st.integers(0, 2))
def test_both_implementations_agree(
    plan: GroupSequential, data: st.DataObject, sigma: float, selected: int
) -> None:
    votes = data.draw(paths(plan.n))
    run = plan.start(sigma, 3, label=1)
    selection = np.ones(3, dtype=int)
    selection[selected] += plan.n0 - 3
    run.update(selection)
    taken = 0
    while run.wanted:
        counts = np.zeros(3, dtype=int)
        counts[selected] = votes[taken : taken + run.wanted].sum()
        counts[(selected + 1) % 3] = run.wanted - counts[selected]
        taken += run.wanted
        run.update(counts)
    certificate = run.certificate
    if plan.label_aware and selected != 1:
        expected = Outcome([], 0.0, 0.0)
    else:
        expected = certify(plan, sigma, votes)
    assert list(certificate.looks) == expected.looks
    assert certificate.n == taken
    assert certificate.p_lower == pytest.approx(expected.p_lower, rel=1e-12, abs=1e-15)
    assert certificate.radius == pytest.approx(expected.radius, rel=1e-6)
    assert (certificate.prediction == selected) == (expected.p_lower > 0.5)


def test_the_looks_of_many_plans() -> None:
    for n in (*range(1, 400), 1000, 10_000, 99_999, 100_000, 10**7):
        for first in (1, 2, 7, 100):
            assert list(GroupSequential(n=n, first_look=first).looks) == looks_of(n, first)
