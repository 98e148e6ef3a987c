import itertools

import numpy as np
import pytest
from power import sequential_power
from scipy.stats import binom

from diffsmooth.stats import GroupSequential
from diffsmooth.stats.bounds import votes_needed


@pytest.mark.parametrize("p", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_votes_and_radii_by_enumeration(p: float) -> None:
    """All sequences of 12 votes, through the public interface."""
    plan = GroupSequential(n0=1, n=12, alpha=0.2, first_look=2, radii=(0.0, 0.3, 9.0))
    votes, certified = 0.0, np.zeros(3)
    for path in itertools.product((0, 1), repeat=12):
        chance = p ** sum(path) * (1 - p) ** (12 - sum(path))
        run = plan.start(1.0, 2)
        run.update(np.array([1, 0]))
        taken = 0
        while run.wanted:
            part = path[taken : taken + run.wanted]
            taken += len(part)
            run.update(np.array([sum(part), len(part) - sum(part)]))
        votes += chance * run.certificate.votes
        reached = run.certificate.prediction == 0
        certified += chance * (reached & (run.certificate.radius >= np.array(plan.radii)))
    power = sequential_power(plan, 1.0, p)
    assert power.votes == pytest.approx(votes)
    assert power.certified == pytest.approx(certified, abs=1e-12)


def power_without_futility(plan: GroupSequential, sigma: float, radius: float, p: float) -> float:
    """P(the bound of any look certifies the radius)."""
    alive, certified, before = np.ones(1), 0.0, 0
    for n, level in zip(plan.looks, plan.levels, strict=True):
        alive = np.convolve(alive, binom.pmf(np.arange(n - before + 1), n - before, p))
        first = votes_needed(n, level, radius, sigma)
        certified += float(alive[first:].sum())
        alive, before = alive[:first], n
    return certified


def test_giving_up_costs_little_power() -> None:
    plan = GroupSequential(n=10_000, radii=(0.5,))
    needed = votes_needed(plan.n, plan.levels[-1], 0.5, 0.5) / plan.n
    spread = (needed * (1 - needed) / plan.n) ** 0.5
    for deviations in (-4, -3, -2, -1, 0, 1, 2, 4, 8):
        p = needed + deviations * spread
        lost = power_without_futility(plan, 0.5, 0.5, p)
        lost -= sequential_power(plan, 0.5, p).certified[0]
        assert -1e-9 <= lost <= 0.001  # a tenth of what b allows


def test_far_from_the_radii_a_tenth_of_the_votes_do() -> None:
    plan = GroupSequential()
    for p in (0.2, 0.55, 0.9, 0.95):
        assert sequential_power(plan, 0.5, p).votes < 0.1 * plan.n


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="must decide radii, got tolerance"):
        sequential_power(GroupSequential(tolerance=0.1), 0.5, 0.9)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.1"):
        sequential_power(GroupSequential(), 0.5, 1.1)
