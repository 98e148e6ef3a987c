"""The guarantee of the group-sequential plan, by exact computation."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from diffsmooth.stats import (
    ABSTAIN,
    FixedSampleSize,
    GroupSequential,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.bounds import votes_needed
from diffsmooth.stats.plans import PlanRun

Bounds = list[np.ndarray]  # of each look: L_k(s) for s = 0 .. n_k


def bounds_of(looks: tuple[int, ...], levels: tuple[float, ...]) -> Bounds:
    return [
        np.array([lower_confidence_bound(s, n, level) for s in range(n + 1)])
        for n, level in zip(looks, levels, strict=True)
    ]


def crossing_probability(looks: tuple[int, ...], bounds: Bounds, p: float) -> float:
    """P(L_k(s) >= p at some look), by dynamic programming: failure just to the left of p."""
    alive, failed, before = np.ones(1), 0.0, 0
    for n, bound in zip(looks, bounds, strict=True):
        alive = np.convolve(alive, binom.pmf(np.arange(n - before + 1), n - before, p))
        first = int(np.searchsorted(bound, p))  # the bounds rise with s
        failed += float(alive[first:].sum())
        alive, before = alive[:first], n
    return failed


def worst_case(looks: tuple[int, ...], levels: tuple[float, ...]) -> float:
    """The largest failure probability over all p: it is approached at the bounds, from the left."""
    bounds = bounds_of(looks, levels)
    points = np.unique(np.concatenate(bounds))
    return max(crossing_probability(looks, bounds, p) for p in points if 0 < p < 1)


@pytest.mark.parametrize(
    ("n", "first", "alpha"),
    [
        (200, 20, 0.05),
        pytest.param(1000, 100, 0.001, marks=pytest.mark.slow),
    ],
)
def test_the_bounds_of_all_looks_hold_together(n: int, first: int, alpha: float) -> None:
    plan = GroupSequential(n=n, first_look=first, alpha=alpha)
    worst = worst_case(plan.looks, plan.levels)
    assert worst <= alpha
    assert worst > 0.5 * alpha  # and it is not wasteful


def test_the_computation_catches_mutants() -> None:
    plan = GroupSequential(n=200, first_look=20, alpha=0.05)
    uncorrected = (0.05,) * len(plan.looks)
    assert worst_case(plan.looks, uncorrected) > 0.05
    assert worst_case(plan.looks, tuple(2 * level for level in plan.levels)) > 0.05


def test_a_single_look_has_all_of_alpha() -> None:
    plan = GroupSequential(n=50, first_look=100, alpha=0.05)
    assert plan.looks == (50,)
    assert plan.levels == (0.05,)
    assert worst_case(plan.looks, plan.levels) == pytest.approx(0.05, rel=1e-6)


def drive(run: PlanRun, path: np.ndarray) -> PlanRun:
    """Feeds 0/1 votes for class 0, after a selection of class 0."""
    run.update(np.array([run.wanted, 0]))
    taken = 0
    while run.wanted:
        votes = path[taken : taken + run.wanted]
        taken += len(votes)
        run.update(np.array([votes.sum(), len(votes) - votes.sum()]))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [None, 0.3])
def test_all_paths_through_the_public_interface(tolerance: float | None) -> None:
    """2^14 sequences of votes, stopping and all: P(bound > p) <= alpha at every p."""
    plan = GroupSequential(
        n0=1, n=14, alpha=0.1, first_look=2, radii=(0.0, 0.5), tolerance=tolerance
    )
    paths = np.array(list(itertools.product((0, 1), repeat=14)))
    bounds = np.array([drive(plan.start(1.0, 2), path).certificate.p_lower for path in paths])
    successes = paths.sum(axis=1)
    assert len(np.unique(bounds)) > 5
    for p in np.unique(bounds)[1:]:
        chance = p**successes * (1 - p) ** (14 - successes)
        assert chance[bounds >= p].sum() <= 0.1


def test_looks_and_levels_by_hand() -> None:
    plan = GroupSequential(n=300, first_look=100, alpha=0.01)
    assert plan.looks == (100, 125, 157, 196, 245, 300)  # 245 <= 0.85 * 300
    assert replace(plan, n=280).looks == (100, 125, 157, 196, 280)  # 245 > 0.85 * 280
    roots = [math.sqrt(n) for n in plan.looks[:-1]]
    expected = [0.002 * root / sum(roots) for root in roots]
    assert plan.levels == pytest.approx((*expected, 0.008))
    assert sum(plan.levels) == pytest.approx(0.01)
    assert GroupSequential(n=14, first_look=1).looks == (1, 2, 3, 4, 5, 6, 8, 10, 14)


def test_the_votes_needed_are_the_fewest() -> None:
    for radius in (0.0, 0.3, 0.7):
        needed = votes_needed(500, 0.01, radius, 0.5)
        for successes, enough in ((needed, True), (needed - 1, False)):
            run = FixedSampleSize(1, 500, 0.01).start(0.5, 2)
            run.update(np.array([1, 0]))
            run.update(np.array([successes, 500 - successes]))
            certificate = run.certificate
            assert (certificate.prediction == 0 and certificate.radius >= radius) == enough
    assert votes_needed(500, 0.01, 5.0, 0.5) == 501


def test_it_stops_as_soon_as_every_radius_is_decided() -> None:
    plan = GroupSequential(n=10_000, radii=(0.0, 0.25, 0.5))
    sure = drive(plan.start(0.5, 2), np.ones(10_000, int)).certificate
    assert sure.prediction == 0
    assert sure.radius >= 0.5
    assert sure.n < 200
    assert sure.status == "certified"
    hopeless = drive(plan.start(0.5, 2), np.arange(10_000) % 5 == 0).certificate
    assert (hopeless.prediction, hopeless.status) == (ABSTAIN, "abstained")
    assert hopeless.n < 200
    assert hopeless.looks[-1].n == hopeless.n
    middling = drive(plan.start(0.5, 2), np.arange(10_000) % 100 < 73).certificate
    assert 0.25 <= middling.radius < 0.5
    assert middling.votes == 100 + middling.n
    assert middling.looks[-1].successes == dict(middling.estimation_counts)[0]


def test_the_bound_is_the_best_of_the_looks() -> None:
    plan = GroupSequential(n=300, radii=(1.0,))
    votes = np.ones(300, int)
    votes[140:] = 0
    run = drive(plan.start(0.5, 2), votes)
    looks = run.certificate.looks
    each = [
        lower_confidence_bound(look.successes, look.n, level)
        for look, level in zip(looks, plan.levels, strict=False)
    ]
    assert run.certificate.p_lower == max(each)


def test_radius_mode_stops_near_the_predicted_radius() -> None:
    plan = GroupSequential(n=10_000, tolerance=0.1)
    votes = (np.arange(10_000) * 7919) % 100 < 93
    certificate = drive(plan.start(0.5, 2), votes).certificate
    fixed = lower_confidence_bound(int(votes.sum()), 10_000, plan.alpha)
    predicted = 0.5 * float(ndtri(fixed))
    assert 0.85 * predicted <= certificate.radius <= predicted
    assert certificate.n < 5_000
    tie = drive(plan.start(0.5, 2), np.arange(10_000) % 4 == 0).certificate
    assert tie.prediction == ABSTAIN
    assert tie.n < 300


def test_label_aware_skips_what_counts_for_nothing() -> None:
    plan = GroupSequential(n=1000, label_aware=True)
    run = plan.start(0.5, 3, label=1)
    run.update(np.array([90, 10, 0]))
    assert run.wanted == 0
    assert (run.certificate.prediction, run.certificate.status) == (ABSTAIN, "skipped")
    assert (run.certificate.votes, run.certificate.n, run.certificate.looks) == (100, 0, ())
    other = plan.start(0.5, 3, label=0)
    other.update(np.array([90, 10, 0]))
    assert other.wanted == 100
    with pytest.raises(ValueError, match="label_aware needs the label"):
        plan.start(0.5, 3)


def test_a_certificate_knows_its_plan() -> None:
    plan = GroupSequential(n=1000, radii=(0.5, 0, 0.25, 0.5), alpha=0.01)
    assert plan.radii == (0.0, 0.25, 0.5)
    certificate = drive(plan.start(0.5, 2), np.ones(1000, int)).certificate
    assert certificate.n < certificate.max_n == 1000
    assert (certificate.plan, certificate.grid) == ("group_sequential", plan.radii)
    any_look = [
        largest_radius(0.5, n, level) for n, level in zip(plan.looks, plan.levels, strict=True)
    ]
    assert certificate.max_radius == max(any_look)
    nothing = replace(plan, tolerance=0.1).nothing(0.5)
    assert (nothing.grid, nothing.tolerance) == ((), 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"first_look": 0}, "first_look must be at least 1"),
        ({"alpha": 1.0}, "alpha must be in"),
        ({"radii": ()}, "radii must be some numbers >= 0"),
        ({"radii": (-0.1,)}, "radii must be some numbers >= 0"),
        ({"tolerance": 0.0}, "tolerance must be in"),
    ],
)
def test_arguments_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupSequential(**change)  # type: ignore[arg-type]
