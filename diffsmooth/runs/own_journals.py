"""The journals of a run at work: the whole one of an earlier end, and the parts of processes."""

from pathlib import Path

from diffsmooth.runs.journal import Journal, merge_records
from diffsmooth.runs.manifest import Manifest
from diffsmooth.runs.names import OutputFiles, is_there
from diffsmooth.runs.same_run import read_own_journal
from diffsmooth.stats import ImageRecord


class OwnJournals:
    """Reads a run's journals, each again only if it has changed: bounds are computed anew.

    Args:
        files: of the run.
    """

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._read: dict[Path, tuple[tuple[object, ...], Journal]] = {}

    def records(self, manifest: Manifest) -> list[ImageRecord]:
        """What the run that a manifest describes has written so far, finished or not.

        Raises:
            JournalError, ManifestError: a journal is broken, or of another run.
        """
        journals = (self._journal(path, manifest) for path in self._paths(manifest))
        return merge_records([record for journal in journals for record in journal.records])

    def place_of(self, record: ImageRecord, manifest: Manifest) -> str:
        """File and line of a record, as the begin of a message."""
        for path in self._paths(manifest):
            journal = self._journal(path, manifest)
            for known, line in zip(journal.records, journal.lines, strict=True):
                if known == record:
                    return f"{path}, line {line}: image {record.index} "
        return f"{self._files.journal}: image {record.index} "  # another shard has just changed it

    def _paths(self, manifest: Manifest) -> list[Path]:
        whole = self._files.journal
        parts = self._files.parts_of_journals(manifest.digest)
        return [*([whole] if is_there(whole) else []), *parts]

    def _journal(self, path: Path, manifest: Manifest) -> Journal:
        state = path.stat()
        key = (manifest.digest, state.st_ino, state.st_size, state.st_mtime_ns)
        if path not in self._read or self._read[path][0] != key:
            self._read[path] = key, read_own_journal(path, manifest)
        return self._read[path][1]
