"""A run at another alpha: what is exact, and what is a lower bound."""

from pathlib import Path

import numpy as np
import pytest

from diffsmooth.report.at_alpha import at_alpha
from diffsmooth.runs.reading import Run
from diffsmooth.stats import FixedSampleSize, GroupSequential, ImageRecord, Plan, Results


def run_of(plan: Plan, shares: list[float], label: int | None = None, failed: int = 0) -> Run:
    """Images of class 1 of 3 that get these shares of the votes, and some that failed."""
    generator, records = np.random.default_rng(0), []
    for index, share in enumerate(shares):
        run = plan.start(0.5, 3, label)
        while run.wanted:
            odds = [(1 - share) / 2, share, (1 - share) / 2]
            run.update(generator.multinomial(run.wanted, odds))
        records.append(ImageRecord(index, 1, 1.0, run.certificate))
    for index in range(len(shares), len(shares) + failed):
        records.append(ImageRecord(index, 1, 1.0, plan.nothing(0.5), "broke"))
    results = Results.from_records(records)
    return Run("a", Path("a.jsonl"), results, np.arange(1, 1 + len(records)), (), tuple(records))


SHARES = [0.4, 0.6, 0.8, 0.95, 1.0]


def test_a_fixed_run_is_exactly_that_of_the_other_alpha() -> None:
    again = at_alpha(run_of(FixedSampleSize(20, 500), SHARES, failed=1), 0.05)
    wanted = run_of(FixedSampleSize(20, 500, alpha=0.05), SHARES, failed=1)
    assert again.records == wanted.records
    assert again.results.stopped_for is None
    assert not again.results.understates
    assert again.remarks[-1].startswith("at alpha 0.05, from the votes that were cast for alpha")


@pytest.mark.parametrize("tolerance", [None, 0.1])
def test_a_sequential_run_gives_lower_bounds_elsewhere_than_at_its_own(
    tolerance: float | None,
) -> None:
    plan = GroupSequential(20, 2000, radii=(0.0, 0.5), first_look=30, tolerance=tolerance)
    run = run_of(plan, SHARES, failed=1)
    for alpha in (1e-4, 0.05):
        again = at_alpha(run, alpha).results
        assert again.stopped_for == 0.001
        assert again.understates_accuracy
        assert again.alpha == alpha
    own = at_alpha(run, 0.001).results
    assert own.stopped_for is None
    assert own.understates_accuracy == (tolerance is not None)


def test_images_without_votes_have_the_plan_of_those_with() -> None:
    plan = GroupSequential(20, 80, radii=(0.0,), first_look=20, label_aware=True)
    run = run_of(plan, SHARES, label=1, failed=2)
    again = at_alpha(run, 0.05).results
    assert again.max_radius == GroupSequential(20, 80, 0.05, first_look=20).nothing(0.5).max_radius


def test_a_table_alone_cannot_be_analysed_again() -> None:
    run = run_of(FixedSampleSize(20, 100), SHARES)
    alone = Run("a", Path("a.txt"), run.results, run.lines)
    with pytest.raises(ValueError, match=r"a\.txt: has no journal"):
        at_alpha(alone, 0.05)
