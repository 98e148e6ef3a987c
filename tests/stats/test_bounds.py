import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from diffsmooth.stats import (
    FixedSampleSize,
    certified_radius,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.reanalysis import reanalyse

alphas = st.floats(1e-6, 0.5)


@st.composite
def votes(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 100_000))
    return draw(st.integers(1, n)), n


@given(votes(), alphas)
def test_the_bound_is_the_p_at_which_so_many_successes_have_probability_alpha(
    counts: tuple[int, int], alpha: float
) -> None:
    successes, n = counts
    bound = lower_confidence_bound(successes, n, alpha)
    tail = binom.sf(successes - 1, n, bound)
    assert tail == pytest.approx(alpha, rel=1e-3)
    # Never above: the tail grows with p, so a bound rounded up would exceed alpha.
    assert tail <= alpha * (1 + 1e-10)


def test_all_successes_have_a_closed_form() -> None:
    assert lower_confidence_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert lower_confidence_bound(1, 1, 0.05) == pytest.approx(0.05)


def test_no_successes_bound_nothing() -> None:
    assert lower_confidence_bound(0, 10, 0.001) == 0.0


@pytest.mark.parametrize("n", [14, 50])
@pytest.mark.parametrize("alpha", [0.1, 0.001])
def test_coverage_by_enumeration(n: int, alpha: float) -> None:
    """P(bound > p) <= alpha at every p; its supremum is approached at the bounds from the left."""
    bounds = np.array([lower_confidence_bound(s, n, alpha) for s in range(n + 1)])
    worst = 0.0
    for p in bounds[1:]:
        failing = np.arange(n + 1)[bounds >= p]
        worst = max(worst, float(binom.pmf(failing, n, p).sum()))
    assert 0.9 * alpha < worst <= alpha * (1 + 1e-9)


@pytest.mark.parametrize(
    ("successes", "n", "alpha", "name"),
    [(-1, 10, 0.1, "successes"), (11, 10, 0.1, "successes"), (0, 0, 0.1, "n"), (1, 2, 0.0, "alpha"),
     (1, 2, 1.0, "alpha"), (1, 2, math.nan, "alpha")],
)  # fmt: skip
def test_arguments_out_of_range(successes: int, n: int, alpha: float, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        lower_confidence_bound(successes, n, alpha)


@given(st.floats(0.5, 1.0, exclude_min=True, exclude_max=True), st.floats(0.01, 4.0))
def test_radius_is_the_normal_quantile_rounded_down(p_lower: float, sigma: float) -> None:
    radius = certified_radius(p_lower, sigma)
    exact = sigma * norm.ppf(p_lower)
    assert exact * (1 - 2**-23) <= radius <= exact


@given(st.floats(0.5, 1.0, exclude_min=True, exclude_max=True), st.floats(1e-4, 1e4))
def test_radius_is_of_the_noise_that_is_drawn_which_may_be_less(
    p_lower: float, sigma: float
) -> None:
    drawn = float(torch.full((1,), sigma, dtype=torch.float32))
    exact = min(Fraction(drawn), Fraction(sigma)) * Fraction(float(norm.ppf(p_lower)))
    radius = Fraction(certified_radius(p_lower, sigma))
    assert exact * (1 - Fraction(1, 10**13)) <= radius <= exact


def test_sigmas_that_float32_rounds_down_certify_less() -> None:
    """0.12 is drawn at 0.11999999731, 0.25 at itself."""
    for sigma, loss in ((0.12, 2.2e-8), (0.25, 0.0), (0.1, 0.0)):
        lost = 1 - certified_radius(0.9, sigma) / (sigma * norm.ppf(0.9))
        assert lost == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.12, 0.25, 1e-50, 1e300])
def test_every_plan_takes_the_smaller_sigma(sigma: float) -> None:
    fixed, sequential = FixedSampleSize(10, 1000), GroupSequential(10, 1000, tolerance=0.01)
    for plan in (fixed, sequential):
        run = plan.start(sigma, 2)
        while run.wanted:
            run.update(np.array([run.wanted, 0]))
        certificate = run.certificate
        assert certificate.sigma == sigma
        assert certificate.radius == certified_radius(certificate.p_lower, sigma)
        assert certificate.radius <= certificate.max_radius
        again = reanalyse(certificate, certificate.alpha)
        assert (again.radius, again.max_radius) == (certificate.radius, certificate.max_radius)
        old = replace(certificate, radius=certificate.radius * (1 + 1e-7))
        assert reanalyse(old, old.alpha).radius == certificate.radius


def test_half_certifies_nothing() -> None:
    assert certified_radius(0.5, 1.0) == 0.0
    assert certified_radius(0.1, 1.0) == 0.0


@pytest.mark.parametrize(
    ("sigma", "n", "expected"),
    [(0.25, 1000, 0.616), (0.5, 1000, 1.232), (0.25, 10_000, 0.800), (0.5, 10_000, 1.599)],
)
def test_largest_radius_at_alpha_one_in_a_thousand(sigma: float, n: int, expected: float) -> None:
    assert largest_radius(sigma, n, 0.001) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("radius", [0.1, 0.5, 0.55, 1.0, 1.5, 2.0])
def test_the_votes_to_reach_a_radius_are_the_fewest(radius: float) -> None:
    votes = votes_to_reach(radius, 0.5, 0.001)
    assert isinstance(votes, int)
    assert largest_radius(0.5, votes, 0.001) >= radius
    assert largest_radius(0.5, votes - 1, 0.001) < radius
    assert votes == pytest.approx(math.log(0.001) / math.log(norm.cdf(2 * radius)), abs=1)


def test_beyond_all_votes_is_infinite() -> None:
    assert votes_to_reach(3.0, 0.5, 0.001) == math.inf
    assert votes_to_reach(30.0, 0.5, 0.001) == math.inf
