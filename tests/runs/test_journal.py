import resource
from pathlib import Path

import numpy as np
import pytest

from diffsmooth.lit.journal import JournalError, JournalWriter, merge_records, read_journal
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


def test_a_good_record_replaces_a_failed_one(tmp_path: Path) -> None:
    plan = FixedSampleSize(n0=1, n=10, alpha=0.1)
    failed = ImageRecord(3, 1, 0.0, plan.nothing(0.5), "RuntimeError: too bright")
    good = make_record(3)
    assert merge_records([failed, good]) == merge_records([good, failed]) == [good]
    assert merge_records([failed, failed]) == [failed]
    JournalWriter(tmp_path / "j.jsonl").append(failed)
    assert read_journal(tmp_path / "j.jsonl") == [failed]


def test_a_full_disk_loses_a_torn_line_only(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)
    writer.append(make_record(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        for _ in range(2):  # a part of the line, then nothing at all
            with pytest.raises(JournalError, match=r"j\.jsonl: cannot be written \("):
                writer.append(make_record(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size > len(make_record(1).to_json()) + 50
    assert [r.index for r in read_journal(path)] == [1]


def test_merging_sorts_and_deduplicates_but_never_hides_a_difference() -> None:
    rows = [make_record(3), make_record(1), make_record(3, seconds=7.0)]
    assert [r.index for r in merge_records(rows)] == [1, 3]
    with pytest.raises(ValueError, match="two records of image 3 differ"):
        merge_records([*rows, make_record(3, successes=8)])
