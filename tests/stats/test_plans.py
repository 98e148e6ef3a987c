import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from diffsmooth.stats import (
    ABSTAIN,
    FixedSampleSize,
    GroupSequential,
    MajorityVote,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.plans import Plan


def test_certify_selects_on_n0_and_estimates_on_fresh_votes() -> None:
    run = FixedSampleSize(n0=10, n=100, alpha=0.01).start(sigma=0.5, num_classes=3)
    assert (run.wanted, run.stage) == (10, 0)
    run.update(np.array([3, 7, 0]))
    assert (run.wanted, run.stage) == (100, 1)
    run.update(np.array([2, 95, 3]))
    assert run.wanted == 0
    certificate = run.certificate
    assert certificate.prediction == certificate.selected == 1
    assert certificate.p_lower == lower_confidence_bound(95, 100, 0.01)
    assert (certificate.n0, certificate.n, certificate.votes) == (10, 100, 110)
    assert certificate.looks == ((100, 95),)
    assert (certificate.plan, certificate.status) == ("fixed", "certified")
    assert (certificate.max_n, certificate.max_radius) == (100, largest_radius(0.5, 100, 0.01))
    assert (certificate.grid, certificate.tolerance) == ((), None)
    assert certificate.selection_counts == ((0, 3), (1, 7))
    assert certificate.estimation_counts == ((0, 2), (1, 95), (2, 3))


def test_the_selected_class_counts_even_if_another_wins_the_estimation() -> None:
    run = FixedSampleSize(n0=3, n=100, alpha=0.01).start(0.5, 2)
    run.update(np.array([2, 1]))
    run.update(np.array([1, 99]))
    certificate = run.certificate
    assert (certificate.prediction, certificate.status) == (ABSTAIN, "abstained")
    assert certificate.radius == 0.0
    assert certificate.selected == 0


def test_failure_probability_of_the_whole_procedure_by_enumeration() -> None:
    """Two classes, f's probabilities p and 1 - p: P(radius > the true one) <= alpha at every p."""
    n0, n, alpha = 3, 12, 0.1
    plan = FixedSampleSize(n0, n, alpha)
    for p in np.linspace(0.0, 1.0, 41):
        failing = 0.0
        for first in range(n0 + 1):
            for second in range(n + 1):
                run = plan.start(1.0, 2)
                run.update(np.array([first, n0 - first]))
                run.update(np.array([second, n - second]))
                certificate = run.certificate
                true = p if certificate.selected == 0 else 1 - p
                if certificate.p_lower > true:
                    failing += binom.pmf(first, n0, p) * binom.pmf(second, n, p)
        assert failing <= alpha


@pytest.mark.parametrize("plan", [FixedSampleSize(n0=2, n=4), MajorityVote(n=2)])
def test_only_the_wanted_votes_are_taken(plan: Plan) -> None:
    run = plan.start(0.5, 2)
    with pytest.raises(ValueError, match="must be 2 votes"):
        run.update(np.array([1, 0]))
    with pytest.raises(ValueError, match="integers"):
        run.update(np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="integers"):
        run.update(np.array([1, 1, 0]))
    with pytest.raises(ValueError, match="2 more votes are wanted"):
        _ = run.certificate


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="n0 must be at least 1, got 0"):
        FixedSampleSize(n0=0)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        FixedSampleSize(n=0)
    with pytest.raises(ValueError, match=r"n must be a whole number, got 100\.0"):
        FixedSampleSize(n=100.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 1"):
        MajorityVote(alpha=1)
    with pytest.raises(ValueError, match="sigma must be > 0"):
        FixedSampleSize().start(0.0, 2)
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        FixedSampleSize().start(0.5, 1)


def test_majority_vote_gives_no_radius() -> None:
    run = MajorityVote(n=100, alpha=0.001).start(0.5, 3)
    assert run.wanted == 100
    run.update(np.array([10, 0, 90]))
    assert (run.certificate.prediction, run.certificate.radius) == (2, 0.0)
    assert (run.certificate.plan, run.certificate.status) == ("majority", "answered")
    tie = MajorityVote(n=2).start(0.5, 2)
    tie.update(np.array([1, 1]))
    assert (tie.certificate.prediction, tie.certificate.status) == (ABSTAIN, "abstained")


@pytest.mark.parametrize("plan", [FixedSampleSize(), MajorityVote(), GroupSequential()])
def test_no_votes_certify_nothing(plan: Plan) -> None:
    nothing = plan.nothing(0.5)
    assert (nothing.status, nothing.prediction, nothing.radius) == ("failed", ABSTAIN, 0.0)
    assert (nothing.votes, nothing.looks, nothing.plan) == (0, (), plan.name)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16])
@pytest.mark.parametrize("plan", [FixedSampleSize, MajorityVote, GroupSequential])
def test_plans_of_numpys_integers_are_those_of_pythons(plan: type, kind: type) -> None:
    assert repr(plan(n=kind(1000))) == repr(plan(n=1000))
    if plan is not MajorityVote:
        assert repr(plan(n=kind(1000), n0=kind(7))) == repr(plan(n=1000, n0=7))


@pytest.mark.parametrize("plan", [FixedSampleSize(10, 900), GroupSequential(10, 900)])
def test_counts_of_narrow_integers_do_not_wrap_around(plan: Plan) -> None:
    """900 votes in pieces that uint8 and int16 hold, which their sums need not."""
    wide, narrow = plan.start(0.5, 2), plan.start(0.5, 2)
    while wide.wanted:
        counts = np.array([wide.wanted - wide.wanted // 3, wide.wanted // 3])
        wide.update(counts)
        narrow.update(counts.astype(np.uint8 if counts.max() < 256 else np.uint16))
    assert narrow.certificate == wide.certificate


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numbers_of_numpy_are_pythons_in_a_plan(kind: type[np.floating[Any]]) -> None:
    """A manifest holds a plan's text, which is read as Python's numbers alone."""
    for plan in (
        FixedSampleSize(20, 200, kind(0.5)),  # type: ignore[arg-type]
        GroupSequential(20, 200, kind(0.5), tolerance=kind(0.25), radii=(kind(0.5),)),  # type: ignore[arg-type]
        MajorityVote(200, kind(0.5)),  # type: ignore[arg-type]
    ):
        assert plan_of_text(str(plan)) == plan
        assert json.loads(json.dumps(plan.alpha)) == 0.5
