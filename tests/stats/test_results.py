import numpy as np
import pytest
from scipy.stats import norm

from diffsmooth.stats import ABSTAIN, FixedSampleSize, GroupSequential, ImageRecord, Results
from diffsmooth.stats.results import CERTIFY_COLUMNS, PREDICT_COLUMNS, to_tsv


def make_record(index: int, label: int, successes: int, seconds: float = 1.0) -> ImageRecord:
    run = FixedSampleSize(n0=10, n=100, alpha=0.001).start(0.5, 3)
    run.update(np.array([0, 10, 0]))
    run.update(np.array([100 - successes, successes, 0]))
    return ImageRecord(index, label, seconds, run.certificate)


def skipped_record(index: int, plan: GroupSequential) -> ImageRecord:
    run = plan.start(0.5, 2, label=1)
    run.update(np.array([plan.n0, 0]))
    return ImageRecord(index, 1, 1.0, run.certificate)


def test_the_table_says_what_was_not_certified() -> None:
    plan = GroupSequential(label_aware=True, radii=(0.1, 1 / 3))
    failed = ImageRecord(4, 1, 0.5, plan.nothing(0.5), error="image 4 has\nno pixels")
    for row in to_tsv([skipped_record(3, plan), failed], CERTIFY_COLUMNS).splitlines()[1:]:
        assert row.split("\t")[2:5] == ["-1", "0.000000", "0"]


def test_the_table_is_the_fields_and_rounds_radii_down() -> None:
    record = make_record(3, 1, 100, seconds=2.34567)
    assert record.certificate.radius == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 100)))
    table = to_tsv([record, make_record(5, 2, 40)], CERTIFY_COLUMNS)
    header, first, second = table.splitlines()
    assert header == "idx\tlabel\tpredict\tradius\tcorrect\ttime"
    idx, label, predict, radius, correct, time = first.split("\t")
    assert (idx, label, predict, correct, time) == ("3", "1", "1", "1", "2.3457")
    assert record.certificate.radius - 1e-6 < float(radius) <= record.certificate.radius
    assert second.split("\t")[:5] == ["5", "2", "-1", "0.000000", "0"]
    assert to_tsv([record], PREDICT_COLUMNS).splitlines()[0] == "idx\tlabel\tpredict\tcorrect\ttime"


def test_results_are_sorted_and_know_the_largest_radius() -> None:
    results = Results.from_records([make_record(5, 2, 100), make_record(3, 1, 100)])
    assert results.index.tolist() == [3, 5]
    assert results.correct.tolist() == [True, False]
    assert results.max_radius == make_record(0, 0, 100).certificate.radius
    assert results.plan == "fixed"
    assert results.votes is not None
    assert results.votes.tolist() == [110, 110]


def test_results_know_the_grid_and_what_was_not_certified() -> None:
    plan = GroupSequential(label_aware=True, radii=(0.1, 0.3, 5.0))
    failed = ImageRecord(4, 1, 0.5, plan.nothing(0.5), error="no pixels")
    results = Results.from_records([failed, skipped_record(3, plan), skipped_record(1, plan)])
    assert [results.count(status) for status in ("certified", "skipped", "failed")] == [0, 2, 1]
    assert results.grid == (0.1, 0.3, 5.0)
    radii = np.array([0.0, 0.1, 0.2, 3 * 0.1, 5.0])  # 3 * 0.1 > 0.3; 5.0 is out of reach
    assert results.measures(radii).tolist() == [False, True, False, True, False]


def test_records_of_different_plans_are_not_one_run() -> None:
    other = ImageRecord(9, 1, 1.0, FixedSampleSize(n0=10, n=200).nothing(0.5))
    with pytest.raises(ValueError, match="different plans"):
        Results.from_records([make_record(5, 2, 100), other])


def test_abstaining_is_never_correct() -> None:
    results = Results(
        index=np.arange(2),
        label=np.array([0, -1]),
        prediction=np.array([0, ABSTAIN]),
        radius=np.zeros(2),
        seconds=np.ones(2),
    )
    assert results.correct.tolist() == [True, False]
