"""The columns of the table of certified accuracy that are of no radius: one line each, below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from diffsmooth.report.text import (
    MISSING,
    abstained_text,
    abstention_rate,
    average_interval,
    average_text,
    interval_text,
    shows_average,
)
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import quoted, shown
from diffsmooth.stats import average_certified_radius
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import rounded_down
from diffsmooth.stats.registry import Registry


@dataclass(frozen=True)
class Column:
    """What a run has in a column.

    Attributes:
        heading: one word.
        text: the cell of a run beside others (the runs, itself too) with so many decimals.
        value: what the page sorts by; None where that is not a number.
        interval: both ends with so many decimals; "" where there is none.
        meaning: the heading in full; "" where it says it all.
    """

    heading: str
    text: Callable[[Run, Sequence[Run], int], str]
    value: Callable[[Run], float | None]
    interval: Callable[[Run, int], str] = lambda run, decimals: ""
    meaning: str = ""


def _average(run: Run, runs: Sequence[Run], decimals: int) -> str:
    return average_text(run.results, decimals) if shows_average(run, runs) else MISSING


def _average_interval(run: Run, decimals: int) -> str:
    low, high = average_interval(run.results)
    return "" if np.isnan(low) else f"[{interval_text(low, high, decimals, ', ')}]"


ACR = Column(
    "ACR",
    _average,
    lambda run: average_certified_radius(run.results),
    _average_interval,
    "average certified radius",
)
COLUMNS = Registry[Column | Callable[[Run], float | str]](
    "column",
    acr=ACR,
    abstained=Column(
        "abstained",
        lambda run, runs, decimals: abstained_text(run.results, decimals),
        lambda run: abstention_rate(run.results),
    ),
    images=Column(
        "images",
        lambda run, runs, decimals: str(len(run.results)),
        lambda run: len(run.results),
    ),
)


def columns_of(words: Sequence[str]) -> tuple[Column, ...]:
    """The columns that words stand for, see `COLUMNS`.

    Another package's is a function from a run to a number, which is rounded down, or to a text; its
    name is the heading.

    Raises:
        UserError: a word that nobody knows, or a heading that stands twice.
    """
    columns = tuple(_column(word) for word in words)
    headings = [column.heading for column in columns]
    for heading in headings:
        if headings.count(heading) > 1:
            raise UserError(f"columns must differ, got {shown(heading)} twice")
    return columns


def _column(word: str) -> Column:
    thing = COLUMNS[word]
    if isinstance(thing, Column):
        return thing
    if not callable(thing):
        raise UserError(f"column {quoted(word)} is no function of a run")

    def number(run: Run) -> float | None:
        value = thing(run)
        return float(value) if isinstance(value, Real) and np.isfinite(float(value)) else None

    def text(run: Run, runs: Sequence[Run], decimals: int) -> str:
        value = thing(run)
        if isinstance(value, str | Integral):
            return shown(value)
        if not isinstance(value, Real):
            raise UserError(f"column {quoted(word)} gives {quoted(value)}, no number and no text")
        return rounded_down(float(value), decimals) if np.isfinite(float(value)) else MISSING

    return Column(shown(word.rpartition(":")[2]), text, number)
