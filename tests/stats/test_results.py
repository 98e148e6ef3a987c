import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from diffsmooth.stats import FixedSampleSize, ImageRecord, Results
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


def test_what_a_journal_line_says() -> None:
    fields = json.loads(make_record(7, 1, 99).to_json())
    assert fields["index"] == 7
    assert fields["correct"] is True
    assert fields["estimation_counts"] == [[0, 1], [1, 99]]
    assert fields["looks"] == [[100, 99]]
    assert {"n0", "n", "alpha", "sigma", "p_lower", "seconds", "votes"} <= set(fields)


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
