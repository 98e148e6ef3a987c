import math

import numpy as np
import pytest
from power import sequential_power
from scipy.stats import binom

from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.forecast import (
    estimate,
    forecast_votes,
    queue_load,
    simulate_loads,
    striped_load,
)
from diffsmooth.stats.pilot import PilotImage

SIGMA = 0.5
LARGE = 10_000_000  # votes of a pilot that knows its shares


def known(share: float, label: int | None = 0, selected: int = 0) -> PilotImage:
    """Of an image whose share the pilot knows well; the rest is of one other class."""
    successes = round(share * LARGE)
    others = ((1 - selected, LARGE - successes),) if successes < LARGE else ()
    return PilotImage(LARGE, successes, selected, others, label)


def test_the_votes_are_those_of_the_exact_computation() -> None:
    plan = GroupSequential(n=5000, radii=(0.0, 0.5))
    shares = [0.75, 0.8, 0.97, 0.99, 1.0]
    votes = forecast_votes(
        [known(p) for p in shares], plan, SIGMA, np.random.default_rng(0), plays=10_000
    )
    assert votes.shape == (5, 2000)
    errors = votes.std(axis=1) / math.sqrt(2000)
    for mean, error, share in zip(votes.mean(axis=1), errors, shares, strict=True):
        expected = sequential_power(plan, SIGMA, share).votes
        assert mean == pytest.approx(expected, abs=4 * error + 0.002 * expected)


@pytest.mark.parametrize("label_aware", [False, True])
def test_near_ties_select_either_class(label_aware: bool) -> None:
    plan = GroupSequential(n0=11, n=400, radii=(0.0, 0.5), label_aware=label_aware)
    votes = forecast_votes([known(0.6)], plan, SIGMA, np.random.default_rng(1), plays=20_000)
    right = binom.sf(5, 11, 0.6)  # 11 votes of two classes have no ties
    when_wrong = 11.0 if label_aware else sequential_power(plan, SIGMA, 0.4).votes
    expected = right * sequential_power(plan, SIGMA, 0.6).votes + (1 - right) * when_wrong
    assert votes.mean() == pytest.approx(expected, abs=4 * votes.std() / math.sqrt(20_000))


def test_a_label_aware_plan_gives_up_what_is_wrong_and_needs_labels() -> None:
    plan = GroupSequential(n0=20, n=400, label_aware=True)
    pilot = [known(0.99, label=1), known(0.99, label=0), known(0.999, label=7, selected=1)]
    wrong, right, other = forecast_votes(pilot, plan, SIGMA, np.random.default_rng(0), plays=900)
    assert set(wrong) == set(other) == {20}
    assert min(right) >= 120
    with pytest.raises(UserError, match="needs labels"):
        forecast_votes([known(0.9, label=None)], plan, SIGMA, np.random.default_rng(0), plays=9)


def test_a_fixed_plan_takes_what_it_takes() -> None:
    plan = FixedSampleSize(n0=10, n=90)
    votes = forecast_votes([known(0.9, label=None)], plan, SIGMA, np.random.default_rng(0))
    assert set(votes.flat) == {100}


def _truth(rng: np.random.Generator, count: int) -> np.ndarray:
    """Half of all images are certain but for 1 vote in 100,000; the rest is spread."""
    return np.where(rng.random(count) < 0.5, 1 - 1e-5, rng.beta(4.0, 1.0, count))


def _pilot(shares: np.ndarray, n: int, rng: np.random.Generator) -> list[PilotImage]:
    """The other votes go to nine classes alike, so that none is selected by chance."""
    successes = rng.binomial(n, shares)
    others = [tuple((k, 1) for k in range(1, 10)) if s < n else () for s in successes]
    return [PilotImage(n, int(s), 0, o, 0) for s, o in zip(successes, others, strict=True)]


def test_the_mean_of_small_pilots_is_the_truths_and_its_error_is_told() -> None:
    # 200 votes an image tell nothing above radius 0.91.
    plan = GroupSequential(n=5000, radii=(0.0, 0.5, 1.25))
    rng = np.random.default_rng(3)
    grid = np.array([*np.linspace(0.0, 0.999, 100), 1 - 1e-5])
    costs = [sequential_power(plan, SIGMA, share).votes for share in grid]
    exact = float(np.interp(_truth(rng, 100_000), grid, costs).mean())
    means, errors, by_jeffreys = [], [], []
    for _ in range(12):
        pilot = _pilot(_truth(rng, 150), 200, rng)
        average = estimate(forecast_votes(pilot, plan, SIGMA, rng, plays=3000).mean(axis=1))
        means.append(average.mean)
        errors.append(average.error)
        successes = np.array([image.successes for image in pilot])
        shares = rng.beta(successes + 0.5, 200.5 - successes, (20, 150))
        by_jeffreys.append(np.interp(shares, grid, costs).mean())
    found = estimate(np.array(means))
    assert found.mean == pytest.approx(exact, abs=3 * found.error)
    assert found.error < 0.04 * exact
    assert np.std(means) == pytest.approx(np.mean(errors), rel=0.6)
    assert np.mean(by_jeffreys) > 1.15 * exact  # what such a prior makes of unanimous images


def test_estimates_by_hand() -> None:
    assert estimate(np.array([1.0, 3.0])) == (2.0, 1.0)
    assert estimate(np.array([4.0])) == (4.0, math.inf)


def test_loads_by_hand() -> None:
    costs = np.array([5, 1, 1, 1, 4, 1])
    assert striped_load(costs, 2) == 5 + 1 + 4
    assert queue_load(costs, 2) == 7  # 5 + 1 beside 1 + 1 + 1 + 4
    assert striped_load(costs, 1) == queue_load(costs, 1) == 13
    assert queue_load(costs, 20) == striped_load(costs, 20) == 5


def test_the_loads_of_many_runs() -> None:
    votes = np.array([[1, 1], [3, 3]])
    one, two, many = simulate_loads(votes, 2, [1, 2, 9], 4000, np.random.default_rng(0))
    assert set(one.mean) == set(one.queue) == {2.0, 4.0, 6.0}
    np.testing.assert_array_equal(one.striped, one.queue)
    # Two workers, an image each: the longer is 3, but for two cheap images of 4 cases.
    for loads in (two, many):
        np.testing.assert_array_equal(loads.queue, loads.striped)
        assert loads.queue.mean() == pytest.approx((3 * 3 + 1) / 4, abs=0.06)
    np.testing.assert_allclose(two.mean, 4.5 * many.mean)
