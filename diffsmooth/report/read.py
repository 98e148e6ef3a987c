"""A run from a file: a journal, or a table of ours or of the field's, with what lies beside it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffsmooth.report.field_tables import read_table
from diffsmooth.report.gallery import read_gallery
from diffsmooth.report.runs import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord, Results
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import parse_journal


def read_results(path: Path | str) -> Results:
    """Results of a run; see `read_run`."""
    return read_run(path).results


def read_run(path: Path | str, name: str | None = None) -> Run:
    """A run, with the journal, the manifest and the gallery that lie beside it.

    Args:
        path: a journal (.jsonl), or a table, see `read_table`.
        name: of the run; by default `run_name(path)`.

    Raises:
        UserError: missing, empty or broken; the message names the file, and the line.
    """
    path = Path(path)
    if not _is_there(path):
        folder = os.path.isdir(path)  # False for names that are too long, too
        raise UserError(f"{path}: {'is a folder, a file is wanted' if folder else 'no such file'}")
    stem = run_name(path)
    _, journal, manifest_file, images = files_of(path)
    manifest = _read_manifest(manifest_file)
    gallery = tuple(read_gallery(images)) if _is_there(images) else ()
    if path == journal:
        records, lines, remarks = _read_journal(path)
        results = results_of(records, path)
    else:
        records = ()
        results, lines, remarks = read_table(path)
        if _is_there(journal):  # our own tables have theirs, which knows the plan
            records, _, said = _read_journal(journal)
            results, remarks = _check_same(results, path, records, journal), remarks + said
    return Run(
        name=shown(stem) if name is None else name,
        path=path,
        results=results,
        lines=lines,
        remarks=remarks,
        records=records,
        identity=manifest.get("identity", {}),
        context=manifest.get("context", {}),
        gallery=gallery,
    )


def files_of(path: Path) -> tuple[Path, Path, Path, Path]:
    """What is read of a run: the file that is named, its journal, its manifest and its images."""
    stem = run_name(path)
    beside = (f"{stem}{ending}" for ending in (".jsonl", ".manifest.json", ".images.npz"))
    journal, manifest, images = (path.parent / name for name in beside)
    return path, journal, manifest, images


def run_name(path: Path) -> str:
    """A run's name: its file's without a final .jsonl, .txt or .tsv."""
    return path.stem if path.suffix in (".jsonl", ".txt", ".tsv") else path.name


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long with its ending
        return False


def _read_manifest(path: Path) -> dict[str, Any]:
    if not _is_there(path):
        return {}
    try:
        manifest = json.loads(path.read_text())
        parts = [manifest["identity"], manifest["context"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest ({error})") from error
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path}: not a manifest")
    return manifest


class _Journal(NamedTuple):
    """By ascending index; see `Run`."""

    records: tuple[ImageRecord, ...]
    lines: np.ndarray
    remarks: tuple[str, ...]


def _read_journal(path: Path) -> _Journal:
    try:
        *whole, rest = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a journal, not even text") from error
    records = parse_journal(whole, path)
    remarks: tuple[str, ...] = ()
    if rest:
        try:
            records.append(ImageRecord.from_json(rest))
        except ValueError:
            remarks = (f"line {len(whole) + 1}, the last, is cut off and left out",)
    if not records:
        raise UserError(f"{path}, line 1: there is no image in it")
    index = np.array([record.index for record in records])
    order = np.argsort(index, kind="stable")
    again = np.flatnonzero(np.diff(index[order]) == 0)
    if again.size:
        before, line = order[again[0] : again[0] + 2]
        raise UserError(
            f"{path}, line {line + 1}: image {index[line]} stands on line {before + 1}, too"
        )
    return _Journal(tuple(records[i] for i in order), order + 1, remarks)


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
