"""What each run is, and the table of certified accuracy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.report.columns import Column
from diffsmooth.report.page.text import short_number, short_radius
from diffsmooth.report.tables import accuracy_table
from diffsmooth.report.text import MISSING, interval_text, remarks_on
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import certified_accuracy, certified_accuracy_interval
from diffsmooth.stats.printed import exact, radius_label, rounded_up


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
        ("noise", results.noise or MISSING),
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


class Cell(NamedTuple):
    """A cell of the table.

    Attributes:
        text: "n/a" where not measured.
        interval: below it, or "".
        value: what the table is sorted by; None where not measured.
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
    """

    radii: list[str]
    columns: Sequence[Column]
    rows: list[list[Cell]]


def page_table(
    runs: Sequence[Run], radii: np.ndarray, columns: Sequence[Column], decimals: int
) -> Table:
    """The table of runs with at least one image each."""
    table = accuracy_table(runs, radii, columns, decimals)
    assert table.best is not None
    rows = []
    for run, texts, best in zip(runs, table.text.to_numpy(), table.best.to_numpy(), strict=True):
        ends = certified_accuracy_interval(run.results, radii)
        intervals = [f"[{interval_text(low, high, decimals, ', ')}]" for low, high in ends]
        intervals += [column.interval(run, decimals) for column in columns]
        values: list[float | None] = [*certified_accuracy(run.results, radii)]
        values += [column.value(run) for column in columns]
        cells = [Cell(*cell) for cell in zip(texts, intervals, values, best, strict=True)]
        # Why a number is missing is said elsewhere on the page.
        rows.append([Cell(MISSING) if c.text.startswith(MISSING) else c for c in cells])
    return Table([radius_label(radius) for radius in radii], columns, rows)
