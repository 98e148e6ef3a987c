"""A run from a file: a journal, or a table of ours or of the field's, with what lies beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffsmooth.report.runs import Run
from diffsmooth.runs.gallery import read_gallery
from diffsmooth.runs.journal import Journal, JournalError, read_journal
from diffsmooth.runs.manifest import Manifest, read_manifest
from diffsmooth.runs.names import is_file
from diffsmooth.runs.same_run import check_possible, check_same_run, check_whole
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord, Results
from diffsmooth.stats.errors import UserError


def read_results(path: Path | str) -> Results:
    """Results of a run; see `read_run`."""
    return read_run(path).results


def read_run(path: Path | str, name: str | None = None) -> Run:
    """A run, with the journal, the manifest and the gallery that lie beside it.

    Args:
        path: a journal (.jsonl), or a table, see `read_table`.
        name: the run's name; by default `run_name(path)`.

    Raises:
        UserError: missing, empty or broken; the message names the file, and the line.
    """
    path = Path(path)
    if not is_file(path):
        folder = os.path.isdir(path)  # False for names that are too long, too
        raise UserError(f"{path}: {'is a folder, a file is wanted' if folder else 'no such file'}")
    stem = run_name(path)
    _, journal, manifest_file, images = files_of(path)
    manifest = read_manifest(manifest_file) or Manifest({}, {})
    gallery = tuple(read_gallery(images)) if is_file(images) else ()
    # Our own tables have their journal, which knows the plan.
    known = _read_journal(journal) if is_file(journal) else Journal((), np.zeros(0, np.int64), ())
    check_same_run(manifest, manifest_file, known, journal)
    records, lines, remarks = known
    if path == journal:
        results = results_of(records, path)
    else:
        from diffsmooth.runs.field_tables import read_table  # pandas: not for help and mistakes

        results, lines, said = read_table(path)
        if records:
            results, remarks = _check_same(results, path, records, journal), said + remarks
        else:
            remarks = said
            check_possible(manifest, manifest_file, results.radius, lines, path)
    check_whole(manifest, manifest_file, results.index, path)
    return Run(
        name=shown(stem) if name is None else name,
        path=path,
        results=results,
        lines=lines,
        remarks=remarks,
        records=records,
        identity=manifest.identity,
        context=manifest.context,
        gallery=gallery,
    )


def files_of(path: Path) -> tuple[Path, Path, Path, Path]:
    """What is read of a run: the file that is named, its journal, its manifest and its images."""
    stem = run_name(path)
    beside = (f"{stem}{ending}" for ending in (".jsonl", ".manifest.json", ".images.npz"))
    journal, manifest, images = (path.parent / name for name in beside)
    return path, journal, manifest, images


def whole_run(path: Path) -> tuple[Path, ...]:
    """What is a run's, whether it is read or not: its tables, too, where its journal is named."""
    tables = (path.parent / f"{run_name(path)}{ending}" for ending in (".txt", ".tsv"))
    return (*files_of(path), *(table for table in tables if is_file(table)))


def run_name(path: Path) -> str:
    """A run's name: its file's without a final .jsonl, .txt or .tsv."""
    return path.stem if path.suffix in (".jsonl", ".txt", ".tsv") else path.name


def _read_journal(path: Path) -> Journal:
    journal = read_journal(path)
    if not journal.records:
        raise JournalError(f"{path}, line 1: there is no image in it")
    return journal


def results_of(records: Sequence[ImageRecord], path: Path) -> Results:
    """Results of one run's records; an error names `path`."""
    try:
        return Results.from_records(records)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_same(
    table: Results, path: Path, records: tuple[ImageRecord, ...], journal: Path
) -> Results:
    known = results_of(records, journal)
    same = len(known) == len(table) and all(
        np.array_equal(getattr(known, name), getattr(table, name))
        for name in ("index", "label", "prediction")
    )
    same = same and np.allclose(known.radius, table.radius, rtol=0.0, atol=2e-6)  # 6 decimals
    if not same:
        raise UserError(f"{path}: is not of the same run as {journal}")
    return known
