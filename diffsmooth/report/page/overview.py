"""What each run is, and the table of certified accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffsmooth.report.columns import Column
from diffsmooth.report.page.text import short_number, short_radius
from diffsmooth.report.tables import best_cells
from diffsmooth.report.text import (
    MISSING,
    accuracy_text,
    interval_text,
    other_images,
    remarks_on,
)
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import Results, certified_accuracy, certified_accuracy_interval
from diffsmooth.stats.printed import exact, radius_label, rounded_up

DECIMALS = 3  # of the table


class RunFacts(NamedTuple):
    """A run's article.

    Attributes:
        file: the file that was read.
        facts: pairs of a name and a value.
        remarks: what a reader must know, one line each.
    """

    file: str
    facts: list[tuple[str, str]]
    remarks: list[str]


def run_facts(run: Run) -> RunFacts:
    """The facts of a run with at least one image; what is not known is said to be so."""
    results = run.results
    seconds = results.seconds[~np.isnan(results.seconds)]
    dataset = f"{run.dataset} {run.identity.get('split', '')}".strip()
    facts = [
        ("images", str(len(results))),
        ("dataset", shown(dataset) or MISSING),
        ("sigma", MISSING if results.sigma is None else exact(results.sigma)),
        ("alpha", MISSING if results.alpha is None else exact(results.alpha)),
        ("plan", shown(results.plan or MISSING)),
        (
            "votes an image",
            MISSING if results.votes is None else rounded_up(results.votes.mean(), 0),
        ),
        ("seconds an image", short_number(float(seconds.mean())) if len(seconds) else MISSING),
        (
            "largest possible radius",
            short_radius(results.max_radius) if results.max_radius else MISSING,
        ),
    ]
    return RunFacts(shown(run.path), facts, [*run.remarks, *remarks_on(results)])


@dataclass
class Cell:
    """A cell of the table.

    Attributes:
        text: "n/a" where not measured.
        interval: below it, or "".
        value: to sort by; None where not measured.
        best: whether it is the best of its column, see `best_cells`.
    """

    text: str
    interval: str = ""
    value: float | None = None
    best: bool = False


class Table(NamedTuple):
    """Certified accuracy at `radii`, and other columns.

    Attributes:
        radii: those of the first columns, as text.
        columns: the others.
        rows: cells, one row a run.
        remarks: what is said of the comparison, one line each.
    """

    radii: list[str]
    columns: Sequence[Column]
    rows: list[list[Cell]]
    remarks: list[str]


def accuracy_table(runs: Sequence[Run], radii: np.ndarray, columns: Sequence[Column]) -> Table:
    """The table of runs with at least one image each."""
    rows = []
    for run in runs:
        results = run.results
        accuracy = certified_accuracy(results, radii)
        interval = certified_accuracy_interval(results, radii)
        row = [
            _accuracy(results, value, low, high)
            for value, (low, high) in zip(accuracy, interval, strict=True)
        ]
        rows.append([*row, *(_cell(column, run, runs) for column in columns)])
    for row, best in zip(rows, best_cells(runs, radii, columns), strict=True):
        for cell, is_best in zip(row, best, strict=True):
            cell.best = bool(is_best)
    return Table([radius_label(radius) for radius in radii], columns, rows, other_images(runs))


def _cell(column: Column, run: Run, runs: Sequence[Run]) -> Cell:
    text = column.text(run, runs, DECIMALS)
    if text.startswith(MISSING):
        return Cell(MISSING)  # why is said elsewhere on the page
    return Cell(text, column.interval(run), column.value(run))


def _accuracy(results: Results, accuracy: float, low: float, high: float) -> Cell:
    if math.isnan(accuracy):
        return Cell(MISSING)
    interval = f"[{interval_text(low, high, between=', ')}]"
    return Cell(accuracy_text(results, accuracy), interval, accuracy)
