import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from diffsmooth.stats import ABSTAIN, FixedSampleSize, GroupSequential, ImageRecord, Results
from diffsmooth.stats.results import CERTIFY_COLUMNS, PREDICT_COLUMNS, to_tsv


def make_record(index: int, label: int, successes: int, seconds: float = 1.0) -> ImageRecord:
    run = FixedSampleSize(n0=10, n=100, alpha=0.001).start(0.5, 3)
    run.update(np.array([0, 10, 0]))
    run.update(np.array([100 - successes, successes, 0]))
    return ImageRecord(index, label, seconds, run.certificate)


@given(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 100), st.integers(0, 10**6))
def test_a_journal_line_keeps_everything(
    index: int, label: int, successes: int, milliseconds: int
) -> None:
    record = make_record(index, label, successes, milliseconds / 1000)
    line = record.to_json()
    assert "\n" not in line
    assert ImageRecord.from_json(line) == record


def skipped_record(index: int, plan: GroupSequential) -> ImageRecord:
    run = plan.start(0.5, 2, label=1)
    run.update(np.array([plan.n0, 0]))
    return ImageRecord(index, 1, 1.0, run.certificate)


def test_a_journal_line_keeps_what_was_not_certified() -> None:
    plan = GroupSequential(label_aware=True, radii=(0.1, 1 / 3))
    skipped = skipped_record(3, plan)
    failed = ImageRecord(4, 1, 0.5, plan.nothing(0.5), error="image 4 has\nno pixels")
    for record in (skipped, failed):
        assert ImageRecord.from_json(record.to_json()) == record
    for row in to_tsv([skipped, failed], CERTIFY_COLUMNS).splitlines()[1:]:
        assert row.split("\t")[2:5] == ["-1", "0.000000", "0"]


def test_what_a_journal_line_says() -> None:
    fields = json.loads(make_record(7, 1, 99).to_json())
    assert fields["index"] == 7
    assert fields["correct"] is True
    assert fields["estimation_counts"] == [[0, 1], [1, 99]]
    assert fields["looks"] == [[100, 99]]
    assert {"n0", "n", "alpha", "sigma", "p_lower", "seconds", "votes"} <= set(fields)
    assert (fields["status"], fields["plan"], fields["max_n"]) == ("certified", "fixed", 100)
    assert (fields["grid"], fields["tolerance"], fields["error"]) == ([], None, "")


@pytest.mark.parametrize("line", ["", "{", "{}", "[1]", '{"index": 1}', "null"])
def test_broken_journal_lines(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ImageRecord.from_json(line)


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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("index", -1, "index is -1"),
        ("index", 10**30, "index is 1000"),
        ("label", -1, "label is -1"),
        ("label", 2.0, "label is 2.0"),
        ("prediction", -2, "prediction is -2"),
        ("prediction", True, "prediction is True"),
        ("prediction", -1, "prediction is -1, but status certified"),
        ("radius", math.nan, "radius is nan"),
        ("radius", math.inf, "radius is inf"),
        ("radius", None, "radius is None"),
        ("radius", "0.5", "radius is '0.5'"),
        ("radius", -0.5, "radius is -0.5"),
        ("radius", 1e9, "radius is 1000000000.0"),
        ("status", "abstained", "prediction is 0, but status abstained"),
        ("status", "answered", "but status answered"),
        ("status", "lucky", "status is 'lucky'"),
        ("alpha", 2, "alpha is 2"),
        ("sigma", [1], r"sigma is \[1\]"),
        ("seconds", -1.0, "seconds is -1.0"),
        ("grid", [0.25, math.nan], "grid is nan"),
        ("grid", 3, "not a journal line"),
    ],
)
def test_lines_that_no_run_can_have_written_are_refused(
    name: str, value: object, message: str
) -> None:
    run = FixedSampleSize(n0=1, n=100).start(0.5, 2)
    run.update(np.array([1, 0]))
    run.update(np.array([99, 1]))
    line = ImageRecord(3, 0, 1.0, run.certificate).to_json()
    assert ImageRecord.from_json(line).certificate == run.certificate
    fields = json.loads(line)
    with pytest.raises(ValueError, match=message):
        ImageRecord.from_json(json.dumps(fields | {name: value}))


def test_abstaining_is_never_correct() -> None:
    results = Results(
        index=np.arange(2),
        label=np.array([0, -1]),
        prediction=np.array([0, ABSTAIN]),
        radius=np.zeros(2),
        seconds=np.ones(2),
    )
    assert results.correct.tolist() == [True, False]
