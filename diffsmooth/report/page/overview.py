"""What each run is, and the table of certified accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffsmooth.report.page.text import short_number, short_radius
from diffsmooth.report.tables import best_cells
from diffsmooth.report.text import (
    MISSING,
    abstained_text,
    abstention_rate,
    accuracy_text,
    average_text,
    interval_text,
    remarks_on,
    shows_average,
)
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    average_radius_interval,
    certified_accuracy,
    certified_accuracy_interval,
)
from diffsmooth.stats.printed import exact, radius_label, rounded_up


class RunFacts(NamedTuple):
    """A run's article.

    Attributes:
        name: of the run.
        file: that was read.
        facts: pairs of a name and a value.
        remarks: what a reader must know, one line each.
    """

    name: str
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
    return RunFacts(run.name, shown(run.path), facts, [*run.remarks, *remarks_on(results)])


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
    """Certified accuracy at `radii`, the average radius, the abstention rate and the images.

    Attributes:
        radii: of the first columns, as text.
        rows: cells, one row a run.
        remarks: of the comparison, one line each.
    """

    radii: list[str]
    rows: list[list[Cell]]
    remarks: list[str]


def accuracy_table(runs: Sequence[Run], radii: np.ndarray) -> Table:
    """The table of runs with at least one image each.

    The average of a plan that stops early is given beside runs of the same grid only: elsewhere it
    would compare the plans.
    """
    rows = []
    for run in runs:
        results = run.results
        accuracy = certified_accuracy(results, radii)
        interval = certified_accuracy_interval(results, radii)
        row = [
            _accuracy(results, value, low, high)
            for value, (low, high) in zip(accuracy, interval, strict=True)
        ]
        row.append(_average(run) if shows_average(run, runs) else Cell(MISSING))
        rows.append([*row, _abstained(results), Cell(f"{len(results)}", "", len(results))])
    for row, best in zip(rows, best_cells(runs, radii), strict=True):
        for cell, is_best in zip(row, best, strict=False):
            cell.best = bool(is_best)
    remarks = []
    if len({run.results.index.tobytes() for run in runs}) > 1:
        remarks.append("the runs are not on the same images")
    return Table([radius_label(radius) for radius in radii], rows, remarks)


def _average(run: Run) -> Cell:
    results, interval = run.results, ""
    if not results.understates and len(results) > 1:
        low, high = average_radius_interval(results)
        interval = _brackets(low, high)
    return Cell(average_text(results), interval, average_certified_radius(results))


def _accuracy(results: Results, accuracy: float, low: float, high: float) -> Cell:
    if math.isnan(accuracy):
        return Cell(MISSING)
    return Cell(accuracy_text(results, accuracy), _brackets(low, high), accuracy)


def _abstained(results: Results) -> Cell:
    rate = abstention_rate(results)
    return Cell(MISSING) if math.isnan(rate) else Cell(abstained_text(results), "", rate)


def _brackets(low: float, high: float) -> str:
    return f"[{interval_text(low, high, between=', ')}]"
