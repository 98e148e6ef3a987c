from pathlib import Path

import numpy as np
import pytest

from diffsmooth.lit.journal import JournalWriter, merge_records, read_journal
from diffsmooth.stats import FixedSampleSize, ImageRecord


def make_record(index: int, successes: int = 9, seconds: float = 1.0) -> ImageRecord:
    run = FixedSampleSize(n0=1, n=10, alpha=0.1).start(0.5, 2)
    run.update(np.array([0, 1]))
    run.update(np.array([10 - successes, successes]))
    return ImageRecord(index, 1, seconds, run.certificate)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    records = [make_record(i) for i in (5, 2, 9)]
    for record in records:
        JournalWriter(path).append(record)
    assert read_journal(path) == records


def test_a_torn_last_line_is_dropped_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    JournalWriter(path).append(make_record(1))
    whole = path.read_bytes()
    JournalWriter(path).append(make_record(2))
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        assert [r.index for r in read_journal(path)] == [1]


def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"index": 1\n' + make_record(2).to_json() + "\n")
    with pytest.raises(ValueError, match=r"j\.jsonl, line 1"):
        read_journal(path)


def test_merging_sorts_and_deduplicates_but_never_hides_a_difference() -> None:
    rows = [make_record(3), make_record(1), make_record(3, seconds=7.0)]
    assert [r.index for r in merge_records(rows)] == [1, 3]
    with pytest.raises(ValueError, match="two records of image 3 differ"):
        merge_records([*rows, make_record(3, successes=8)])
