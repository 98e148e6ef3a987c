"""The journal: one line an image, safe on disk before the next image begins."""

import errno
import os
from pathlib import Path

from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import parse_journal


class JournalError(UserError):
    """A journal cannot be written."""


class JournalWriter:
    """Appends records to a file of its own.

    Args:
        path: the file; no other process writes to it, and none after an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: ImageRecord) -> None:
        """Writes one line, in one call, through to the disk.

        Raises:
            JournalError: it did not all get there, as on a full disk.
        """
        line = (record.to_json() + "\n").encode()
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if os.write(handle, line) != len(line):
                    raise OSError(errno.ENOSPC, "the disk took only a part of a line")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror})") from error


def read_journal(path: Path) -> list[ImageRecord]:
    """The records of a journal; a torn last line is dropped.

    Raises:
        ValueError: a broken line, with the file's name and the line's number.
    """
    content = path.read_text()
    lines = content.split("\n")
    lines.pop()  # empty, or what a crash left of a line
    return parse_journal(lines, path)


def merge_records(records: list[ImageRecord]) -> list[ImageRecord]:
    """One record an image, by ascending index; one that failed counts only where none is better.

    Raises:
        ValueError: two records of an image whose certificates differ.
    """
    merged: dict[int, ImageRecord] = {}
    for record in records:
        known = merged.setdefault(record.index, record)
        if known.error:
            merged[record.index] = known = record
        if record.error:
            continue
        if known.certificate != record.certificate or known.label != record.label:
            raise ValueError(
                f"two records of image {record.index} differ: the votes are not the same"
            )
    return [merged[index] for index in sorted(merged)]
