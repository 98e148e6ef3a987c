import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest

from diffsmooth.runs.journal import JournalError, append_record, merge_records, read_journal
from diffsmooth.runs.line import to_line
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.results import Origin

ORIGIN = Origin("0123456789abcdef", "a source", "fedcba9876543210", (3, 32, 32), "cats/1.png")


def make_record(
    index: int, successes: int = 9, seconds: float = 1.0, origin: Origin | None = None
) -> ImageRecord:
    run = FixedSampleSize(n0=1, n=10, alpha=0.1).start(0.5, 2)
    run.update(np.array([0, 1]))
    run.update(np.array([10 - successes, successes]))
    return ImageRecord(index, 1, seconds, run.certificate, origin=origin)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    records = [make_record(i) for i in (5, 2, 9)]
    for record in records:
        append_record(path, record)
    journal = read_journal(path)
    assert journal.records == tuple(sorted(records, key=lambda record: record.index))
    assert (journal.lines.tolist(), journal.remarks) == ([2, 1, 3], ())


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_a_torn_last_line_is_left_out_at_any_length(tmp_path: Path, origin: Origin | None) -> None:
    path = tmp_path / "j.jsonl"
    append_record(path, make_record(1, origin=origin))
    whole = path.read_bytes()
    append_record(path, make_record(2, origin=origin))
    both = path.read_bytes()
    for length in range(len(whole), len(both) - 1):
        path.write_bytes(both[:length])
        journal = read_journal(path)
        assert [r.index for r in journal.records] == [1]
        cut = ("line 2, the last, is cut off and left out",)
        assert journal.remarks == (() if length == len(whole) else cut)
    path.write_bytes(both[:-1])  # whole, but for its end
    assert [r.index for r in read_journal(path).records] == [1, 2]


def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"index": 1\n' + to_line(make_record(2)) + "\n")
    with pytest.raises(ValueError, match=r"j\.jsonl, line 1"):
        read_journal(path)


def test_a_good_record_replaces_a_failed_one(tmp_path: Path) -> None:
    plan = FixedSampleSize(n0=1, n=10, alpha=0.1)
    failed = ImageRecord(3, 1, 0.0, plan.nothing(0.5), "RuntimeError: too bright")
    good = make_record(3)
    assert merge_records([failed, good]) == merge_records([good, failed]) == [good]
    assert merge_records([failed, failed]) == [failed]
    append_record(tmp_path / "j.jsonl", failed)
    assert read_journal(tmp_path / "j.jsonl").records == (failed,)


def test_a_full_disk_loses_a_torn_line_only(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    path = tmp_path / "j.jsonl"
    append_record(path, make_record(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        for _ in range(2):  # a part of the line, then nothing at all
            with pytest.raises(JournalError, match=r"j\.jsonl: cannot be written \("):
                append_record(path, make_record(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size > len(to_line(make_record(1))) + 50
    assert [r.index for r in read_journal(path).records] == [1]


def test_merging_sorts_and_deduplicates_but_never_hides_a_difference() -> None:
    rows = [make_record(3), make_record(1), make_record(3, seconds=7.0)]
    assert [r.index for r in merge_records(rows)] == [1, 3]
    with pytest.raises(ValueError, match="two records of image 3 differ"):
        merge_records([*rows, make_record(3, successes=8)])


def test_one_reader_merges_what_stands_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    failed = ImageRecord(3, 1, 0.0, FixedSampleSize(n0=1, n=10, alpha=0.1).nothing(0.5), "broken")
    for record in (failed, make_record(5), make_record(3), make_record(5, seconds=9.0)):
        append_record(path, record)
    journal = read_journal(path)
    assert journal.records == (make_record(3), make_record(5))
    assert journal.lines.tolist() == [3, 2]
    assert journal.remarks == ("line 4 says of image 5 what line 2 says, too",)
    append_record(path, make_record(3, successes=8))
    with pytest.raises(JournalError, match=r"line 5: image 3 has other votes on line 3"):
        read_journal(path)


def test_records_of_two_images_at_one_index_are_refused() -> None:
    other = dataclasses.replace(ORIGIN, image="0" * 16)
    rows = [make_record(3, origin=ORIGIN), make_record(3), make_record(3, origin=other)]
    assert merge_records(rows[:2]) == rows[:1]
    with pytest.raises(JournalError, match="two records of image 3 differ"):
        merge_records(rows)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[" * 200_000 + b"\n", b"\n", b"null\n"])
def test_what_is_no_journal_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j.jsonl").write_bytes(content)
    with pytest.raises(JournalError, match=r"j\.jsonl(: not a journal|, line 1: not a journal)"):
        read_journal(tmp_path / "j.jsonl")
