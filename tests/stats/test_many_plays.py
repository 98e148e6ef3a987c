"""Many plays at once are plays of the plan."""

import numpy as np
import pytest
from power import sequential_power
from scipy.stats import chi2_contingency

from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.many_plays import StoppingRule, play

SIGMA = 0.5
PLANS = {
    "radii": GroupSequential(n0=1, n=900, radii=(0.0, 0.3, 0.7), first_look=20),
    "a radius out of reach": GroupSequential(n0=1, n=900, radii=(0.2, 5.0), first_look=20),
    "tolerance": GroupSequential(n0=1, n=900, tolerance=0.1, first_look=20),
    "one look": GroupSequential(n0=1, n=50, first_look=100),
    "large alpha": GroupSequential(n0=1, n=300, alpha=0.3, radii=(0.0, 0.5), first_look=2),
}


def by_the_plan(plan: GroupSequential, fresh: list[int]) -> int:
    """Votes after the selection, image by image; `fresh` are the successes between looks."""
    run = plan.start(SIGMA, 2, label=0)
    run.update(np.array([plan.n0, 0]))
    successes = iter(fresh)
    while wanted := run.wanted:
        some = next(successes)
        run.update(np.array([some, wanted - some]))
    return run.certificate.n


@pytest.mark.parametrize("name", PLANS)
def test_every_path_stops_where_the_plan_stops(name: str) -> None:
    plan, rng, images = PLANS[name], np.random.default_rng(0), 200
    steps = np.diff([0, *plan.looks])
    # From shares that change on the way, too: bounds of earlier looks count.
    shares = rng.beta(2.0, 0.5, (images, 1)) * np.where(
        rng.random((images, len(steps))) < 0.2, 0.7, 1
    )
    fresh = rng.binomial(steps, shares)
    stops, alive = StoppingRule(plan, SIGMA, images), np.arange(images)
    found = np.zeros(images, dtype=int)
    for k, n in enumerate(plan.looks):
        stopped = stops.after(k, fresh[alive, : k + 1].sum(axis=1), alive)
        found[alive[stopped]] = n
        alive = alive[~stopped]
    assert found.tolist() == [by_the_plan(plan, row) for row in fresh.tolist()]
    assert len(set(found)) > 4 or name == "one look"


def test_votes_are_distributed_as_the_plans() -> None:
    plan, share = PLANS["radii"], 0.8
    rng = np.random.default_rng(1)
    steps = np.diff([0, *plan.looks])
    ours = play(plan, SIGMA, np.full(4000, share), rng)
    plans = [
        by_the_plan(plan, row) for row in rng.binomial(steps, share, (400, len(steps))).tolist()
    ]
    table = [[np.sum(np.equal(votes, n)) for n in plan.looks] for votes in (ours, plans)]
    seen = np.array(table)[:, np.sum(table, axis=0) > 20]
    assert chi2_contingency(seen).pvalue > 0.001


@pytest.mark.parametrize("share", [0.0, 0.4, 0.62, 0.8, 0.99, 1.0])
def test_the_mean_is_that_of_the_exact_computation(share: float) -> None:
    plan = GroupSequential(n0=7, n=5000, radii=(0.0, 0.5))
    votes = play(plan, SIGMA, np.full(4000, share), np.random.default_rng(2))
    error = votes.std() / np.sqrt(len(votes))
    assert 7 + votes.mean() == pytest.approx(
        sequential_power(plan, SIGMA, share).votes, abs=4 * error + 1e-6
    )


def test_a_fixed_plan_takes_all() -> None:
    votes = play(FixedSampleSize(n0=3, n=40), SIGMA, np.array([0.1, 1.0]), np.random.default_rng(0))
    assert votes.tolist() == [40, 40]
