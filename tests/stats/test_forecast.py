import numpy as np
import pytest

from diffsmooth.stats import Certificate, FixedSampleSize, GroupSequential
from diffsmooth.stats.forecast import forecast_votes, queue_load, striped_load
from diffsmooth.stats.power import sequential_power


def pilot(p: float, n: int = 100_000) -> Certificate:
    run = FixedSampleSize(n0=1, n=n).start(0.5, 2)
    run.update(np.array([1, 0]))
    run.update(np.array([round(p * n), n - round(p * n)]))
    return run.certificate


@pytest.mark.parametrize("p", [0.3, 0.8, 0.99])
def test_the_votes_are_those_of_the_exact_computation(p: float) -> None:
    plan = GroupSequential(n=5000, radii=(0.0, 0.5))
    votes = forecast_votes([pilot(p)], plan, 400, np.random.default_rng(0))
    error = votes.std() / np.sqrt(len(votes))
    # The pilot's n is so large that its posterior hardly spreads.
    assert votes.mean() == pytest.approx(sequential_power(plan, 0.5, p).votes, abs=5 * error + 20)


def test_a_fixed_plan_takes_what_it_takes_and_a_pilot_without_votes_tells_nothing() -> None:
    plan = FixedSampleSize(n0=10, n=90)
    assert set(forecast_votes([pilot(0.9)], plan, 5, np.random.default_rng(0))) == {100}
    with pytest.raises(ValueError, match="no estimation votes"):
        forecast_votes([plan.nothing(0.5)], plan, 5, np.random.default_rng(0))


def test_loads_by_hand() -> None:
    costs = np.array([5, 1, 1, 1, 4, 1])
    assert striped_load(costs, 2) == 5 + 1 + 4
    assert queue_load(costs, 2) == 7  # 5 + 1 beside 1 + 1 + 1 + 4
    assert striped_load(costs, 1) == queue_load(costs, 1) == 13
    assert queue_load(costs, 20) == 5
