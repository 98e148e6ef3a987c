"""What a planned run needs of the votes, and how well few votes foretell what it will certify."""

from fractions import Fraction

import numpy as np
import pytest
from power import sequential_power
from scipy.stats import beta, binom, binomtest, norm

from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.outlook import Goal, contrast_of, goal_of, share_of

SIGMA = 0.5


def goal(radius: float, n: int = 10_000) -> Goal:
    found = goal_of(FixedSampleSize(100, n, 1e-3), radius, SIGMA)
    assert found is not None
    return found


@pytest.mark.parametrize(("n", "radius"), [(1000, 0.25), (10_000, 0.5), (100_000, 0.5)])
def test_the_share_is_the_least_that_the_planned_run_certifies(n: int, radius: float) -> None:
    needed = goal(radius, n).needed
    low = [beta.ppf(1e-3, s, n - s + 1) for s in (needed - 1, needed)]  # Clopper-Pearson
    assert SIGMA * norm.ppf(low[0]) < radius <= SIGMA * norm.ppf(low[1])


def test_a_radius_beyond_all_votes_is_no_goal() -> None:
    assert goal_of(FixedSampleSize(100, 100, 1e-3), 0.8, SIGMA) is None
    assert goal(0.0, 100).share > 0.5


def test_the_share_is_compared_in_whole_numbers() -> None:
    found, votes = goal(0.5), np.arange(121)
    wanted = [Fraction(int(s), 120) >= Fraction(found.needed, found.n) for s in votes]
    assert found.reached(votes, 120).tolist() == wanted


def test_a_sequential_run_needs_about_the_share_of_its_last_look() -> None:
    plan = GroupSequential(100, 10_000, 1e-3)
    found = goal_of(plan, 0.5, SIGMA)
    assert found is not None
    assert found.needed > goal(0.5).needed  # its last level is 0.8 alpha
    place = plan.radii.index(0.5)
    for away in (-0.005, 0.0, 0.005):
        p = found.share + away
        exact = sequential_power(plan, SIGMA, p).certified[place]
        assert exact == pytest.approx(binom.sf(found.needed - 1, plan.n, p), abs=0.005)


# Distributions of the label's probability over images: (weight, a, b) of Beta's.
MIXTURES = {
    "certain or lost": [(0.15, 1, 6), (0.85, 4, 0.6)],
    "spread": [(0.3, 1.2, 2), (0.7, 2, 1)],
    "hard": [(0.35, 0.5, 1.5), (0.65, 3, 0.8)],
    "crowded at the threshold": [(0.2, 1, 5), (0.8, 18, 2)],
}
QUANTILES = (np.arange(4000) + 0.5) / 4000


def bias(mixture: str, found: Goal, counted: np.ndarray, votes: int) -> float:
    """Of the estimate that counts an image by its label's votes (votes + 1,), less the truth."""
    parts = MIXTURES[mixture]
    p = np.concatenate([beta.ppf(QUANTILES, a, b) for _, a, b in parts])
    weights = np.repeat([w / len(QUANTILES) for w, _, _ in parts], len(QUANTILES))
    planned = binom.sf(found.needed - 1, found.n, p)
    expected = counted @ binom.pmf(np.arange(votes + 1)[:, None], votes, p)
    return float(weights @ (expected - planned))


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("n", [10_000, 100_000])
def test_the_estimate_has_little_bias_and_few_votes_certificates_much(mixture: str, n: int) -> None:
    crowded = mixture.startswith("crowded")
    for radius in (0.25, 0.5):
        found, votes = goal(radius, n), np.arange(121)
        reached = found.reached(votes, 120)
        assert abs(bias(mixture, found, reached, 120)) < (0.015 if crowded else 0.005)
        certified = votes >= goal(radius, 120).needed
        assert bias(mixture, found, certified, 120) < -0.09
    # A posterior's chance blurs twice: worse where it matters.
    found = goal(0.5, n)
    chance = beta.sf(found.share, votes + 0.5, 120 - votes + 0.5)
    posterior = abs(bias("crowded at the threshold", found, chance, 120))
    assert posterior > abs(bias("crowded at the threshold", found, found.reached(votes, 120), 120))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_fewest_votes_are_biased_by_less_than_their_interval(mixture: str) -> None:
    for radius in (0.25, 0.5, 0.75, 1.0):
        found = goal(radius)
        votes = found.enough_votes
        assert votes * (1 - found.share) >= 5 > (votes - 1) * (1 - found.share)
        reached = found.reached(np.arange(votes + 1), votes)
        assert abs(bias(mixture, found, reached, votes)) < 0.08


def test_a_share_and_its_interval() -> None:
    hits = np.array([True] * 12 + [False] * 8)
    exact = binomtest(12, 20).proportion_ci(0.95, method="exact")
    assert share_of(hits) == pytest.approx((0.6, exact.low, exact.high))


def test_a_contrast_counts_the_images_that_differ() -> None:
    hits, others = np.array([1, 1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 0, 1, 0], bool)
    found = contrast_of(hits, others)
    assert found.value == pytest.approx(2 / 6)
    assert found.p_value == pytest.approx(binomtest(1, 4).pvalue)
    # Agresti & Min by hand: cells 3.5 and 1.5 of 8; d = 2/8, var = (5/8 - 1/16) / 8.
    assert found.interval == pytest.approx((0.25 - 1.959964 * 0.0703125**0.5,
                                            0.25 + 1.959964 * 0.0703125**0.5))  # fmt: skip


def test_the_intervals_of_contrasts_cover(rng: np.random.Generator) -> None:
    covered = 0
    for _ in range(1000):
        first = rng.random(200) < 0.7
        second = np.where(rng.random(200) < 0.1, rng.random(200) < 0.4, first)
        truth = 0.1 * (0.4 - 0.7)
        low, high = contrast_of(second, first).interval
        covered += low <= truth <= high
    assert 930 <= covered <= 975
