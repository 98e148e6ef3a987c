"""The journal: one line an image, safe on disk before the next image begins."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffsmooth.runs.line import from_line, to_line
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError


class JournalError(UserError):
    """A journal cannot be written, or is broken."""


def append_record(path: Path, record: ImageRecord) -> None:
    """Writes one line, in one call, through to the disk.

    Args:
        path: no other process writes to this file, and none after an error.
        record: what the line says.

    Raises:
        JournalError: it did not all get there, as on a full disk.
    """
    line = (to_line(record) + "\n").encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags, 0o644)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk took only a part of a line")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise JournalError(f"{path}: cannot be written ({error.strerror})") from error


class Journal(NamedTuple):
    """What a journal holds, one record an image, by ascending index.

    Attributes:
        path: the file.
        records: one an image.
        lines: int64 (M,), the line that each stands on, from 1.
        remarks: what was left out, one line each.
    """

    path: Path
    records: tuple[ImageRecord, ...]
    lines: np.ndarray
    remarks: tuple[str, ...]


def read_journal(path: Path) -> Journal:
    """Reads a journal, whoever wants it.

    A last line without an end counts if it is whole, and is left out, with a remark, if a crash has
    cut it off. An image that stands there twice, with the same votes, counts once.

    Raises:
        JournalError: a line that is broken or that says what its votes do not, with its number;
            records of an image whose votes differ.
    """
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise JournalError(f"{path}: not a journal, not even text") from error
    except OSError as error:
        raise JournalError(f"{path}: cannot be read ({error.strerror})") from error
    records, remarks = [], []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(from_line(line))
        except ValueError as error:
            if number < len(lines):
                raise JournalError(f"{path}, line {number}: {error}") from error
            if line:  # it has no end
                remarks.append(f"line {number}, the last, is cut off and left out")
    kept = _places(records, lambda place, known: (
        f"{path}, line {place + 1}: image {records[place].index} has other votes on line "
        f"{known + 1}"
    ))  # fmt: skip
    remarks += [
        f"line {place + 1} says of image {record.index} what line {kept[record.index] + 1} says, "
        "too"
        for place, record in enumerate(records)
        if place != kept[record.index] and not record.error
    ]
    places = [kept[index] for index in sorted(kept)]
    numbers = np.array(places, dtype=np.int64) + 1
    return Journal(path, tuple(records[place] for place in places), numbers, tuple(remarks))


def merge_records(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """One record an image, by ascending index; one that failed counts only where none is better.

    Raises:
        JournalError: two records of an image whose votes differ.
    """
    kept = _places(records, lambda place, known: (
        f"two records of image {records[place].index} differ: the votes are not the same"
    ))  # fmt: skip
    return [records[kept[index]] for index in sorted(kept)]


def _places(
    records: Sequence[ImageRecord], contradiction: Callable[[int, int], str]
) -> dict[int, int]:
    """Which record of each image counts: the image's index to the record's place.

    A JournalError tells a `contradiction` of two places whose votes differ.
    """
    kept: dict[int, int] = {}
    for place, record in enumerate(records):
        known = kept.setdefault(record.index, place)
        if records[known].error:
            kept[record.index] = place
        elif not record.error and not _agree(records[known], record):
            raise JournalError(contradiction(place, known))
    return kept


def _agree(first: ImageRecord, second: ImageRecord) -> bool:
    """Whether two records of an image say the same of it."""
    images = {r.origin.image for r in (first, second) if r.origin is not None}
    same = first.certificate == second.certificate and first.label == second.label
    return same and len(images) < 2
