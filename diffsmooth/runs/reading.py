"""The one reader of runs: of those at work, and of finished ones, ours or the field's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffsmooth.runs.gallery import GalleryImage, read_gallery
from diffsmooth.runs.journal import Journal, JournalError, merge_records, read_journal
from diffsmooth.runs.manifest import Manifest, ManifestError, read_manifest
from diffsmooth.runs.names import JOURNAL, OutputFiles, RunFiles, is_there
from diffsmooth.runs.same_run import check_possible, check_same_run, check_whole
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord, Results
from diffsmooth.stats.errors import UserError

SAME_RADIUS = 2e-6  # of a table's radius, which has six decimals, and its journal's


class OwnJournals:
    """The journals of a run at work: the whole one of an earlier end, and the parts of processes.

    Each is read again only if it has changed, since each line's bound is computed anew.
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
            self._read[path] = key, check_same_run(read_journal(path), manifest)
        return self._read[path][1]


@dataclass(frozen=True)
class Run:
    """A finished run: results with their name and origin.

    Attributes:
        name: for tables and legends.
        path: the file that was named.
        results: those of all images.
        lines: int64 (M,), the line of each image in the file, from 1.
        remarks: what a reader must know of the file, one line each.
        records: the journal's, by ascending index; empty where there is none.
        identity, context: the manifest's, as they are stored; empty where there is none.
        gallery: pixels of a few images, by ascending index; empty where there are none.
    """

    name: str
    path: Path
    results: Results
    lines: np.ndarray
    remarks: tuple[str, ...] = ()
    records: tuple[ImageRecord, ...] = ()
    identity: Mapping[str, object] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)
    gallery: tuple[GalleryImage, ...] = ()

    @property
    def dataset(self) -> str:
        """The dataset's name, "" where not known."""
        return str(self.identity.get("dataset", ""))


def read_results(path: Path | str) -> Results:
    """Results of a run; see `read_run`."""
    return read_run(path).results


def read_run(path: Path | str, name: str | None = None) -> Run:
    """A run, with the journal, the manifest and the gallery that lie beside it.

    Args:
        path: a journal (.jsonl), or a table, see `read_table`.
        name: the run's; by default its files'.

    Raises:
        UserError: missing, empty or broken; the message names the file, and the line.
    """
    path = Path(path)
    if not is_there(path):
        raise UserError(f"{path}: no such file")
    files = RunFiles.beside(path)
    stored = read_manifest(files.manifest)
    manifest = stored or Manifest(files.manifest, {}, {})
    if manifest.identity.get("command") == "attack":
        raise UserError(f"{path}: is of attacks on a run, not of one: `report` takes --attacks")
    gallery = tuple(read_gallery(files.images)) if is_there(files.images) else ()
    journal = _journal_of(files, stored)
    if journal is not None and path.suffix == JOURNAL:
        results, lines, remarks = results_of(journal.records, path), journal.lines, journal.remarks
    else:
        from diffsmooth.runs.field_tables import read_table  # pandas: not for help and mistakes

        results, lines, remarks = read_table(path)
        if journal is None:
            check_possible(manifest, results.radius, lines, path)
        else:  # our own tables have their journal, which knows the plan
            results = _check_same(results, path, journal)
            beside = shown(files.journal.name)
            remarks = (*remarks, *(f"{beside}, {remark}" for remark in journal.remarks))
    check_whole(manifest, results.index, path)
    name = shown(RunFiles(path).name) if name is None else name
    records = () if journal is None else journal.records
    told = manifest.identity, manifest.context
    return Run(name, path, results, lines, remarks, records, *told, gallery)


def results_of(records: Sequence[ImageRecord], path: Path) -> Results:
    """Results of one run's records; an error names `path`."""
    try:
        return Results.from_records(records)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _journal_of(files: RunFiles, manifest: Manifest | None) -> Journal | None:
    """The journal of a finished run, None where there is none."""
    if not is_there(files.journal):
        return None
    journal = read_journal(files.journal)
    if manifest is not None:
        check_same_run(journal, manifest)
    elif any(record.origin is not None for record in journal.records):
        raise ManifestError(
            f"{files.manifest}: no such file, and without it nobody knows what run {files.journal} "
            "is of"
        )
    if not journal.records:
        raise JournalError(f"{files.journal}, line 1: there is no image in it")
    return journal


def _check_same(table: Results, path: Path, journal: Journal) -> Results:
    """The results of a journal, which the table beside it must not contradict."""
    known = results_of(journal.records, journal.path)
    same = len(known) == len(table) and all(
        np.array_equal(getattr(known, name), getattr(table, name))
        for name in ("index", "label", "prediction")
    )
    if not same or not np.allclose(known.radius, table.radius, rtol=0.0, atol=SAME_RADIUS):
        raise UserError(f"{path}: is not of the same run as {journal.path}")
    return known
