"""Results from a file: a journal, or the six-column table."""

from pathlib import Path

import numpy as np
import pandas as pd

from diffsmooth.stats import MajorityVote, Results
from diffsmooth.stats.results import CERTIFY_COLUMNS, parse_journal


def read_results(path: Path | str) -> Results:
    """Results of a run.

    Args:
        path: a journal (.jsonl), or a table with the columns idx, label, predict, radius, correct
            and time (seconds, or h:mm:ss), separated by tabs.

    Raises:
        ValueError: missing, empty or broken; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".jsonl":
        return _read_journal(path)
    try:
        table = pd.read_csv(path, sep="\t")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table ({error})") from error
    missing = [column for column in CERTIFY_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing")
    for column in CERTIFY_COLUMNS[:-1]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = np.flatnonzero(numbers.isna())
        if bad.size:
            raise ValueError(f"{path}, line {bad[0] + 2}: {column} is not a number")
        table[column] = numbers
    table["time"] = [_seconds(cell) for cell in table["time"]]
    table = table.sort_values("idx")
    results = Results(
        index=table["idx"].to_numpy(np.int64),
        label=table["label"].to_numpy(np.int64),
        prediction=table["predict"].to_numpy(np.int64),
        radius=table["radius"].to_numpy(np.float64),
        seconds=table["time"].to_numpy(np.float64),
    )
    # Our own tables have their journal beside them, which knows the plan.
    journal = path.with_name(f"{run_name(path)}.jsonl")
    return _with_journal(results, path, journal) if journal.is_file() else results


def run_name(path: Path) -> str:
    """A run's name: its file's without a final .jsonl, .txt or .tsv."""
    return path.stem if path.suffix in (".jsonl", ".txt", ".tsv") else path.name


def _read_journal(path: Path) -> Results:
    records = parse_journal(path.read_text().splitlines(), path)
    if any(record.certificate.plan == MajorityVote.name for record in records):
        raise ValueError(f"{path}: is of `diffsmooth predict`, which certifies nothing")
    try:
        return Results.from_records(records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _with_journal(table: Results, path: Path, journal: Path) -> Results:
    known = _read_journal(journal)
    same = len(known) == len(table) and all(
        np.array_equal(getattr(known, name), getattr(table, name))
        for name in ("index", "label", "prediction")
    )
    same = same and np.allclose(known.radius, table.radius, rtol=0.0, atol=2e-6)  # 6 decimals
    if not same:
        raise ValueError(f"{path}: is not of the same run as {journal}")
    return known


def _seconds(cell: object) -> float:
    """Seconds from a number or from h:mm:ss.ffffff; NaN where it is neither."""
    try:
        return float(str(cell))
    except ValueError:
        return pd.to_timedelta(str(cell), errors="coerce").total_seconds()
