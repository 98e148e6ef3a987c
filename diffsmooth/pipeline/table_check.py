"""What can be said of other people's tables of radii, whose votes nobody has kept.

By N, alpha and sigma, which their user states, it is known which radii a bound of N votes can give.
"""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import betaincinv, log_ndtr, ndtri

from diffsmooth.pipeline.exact_votes import float32_or_less, largest_bound, mp, radius_of
from diffsmooth.pipeline.verify_specification import VerifyOptions
from diffsmooth.runs.field_tables import KINDS, RADIUS, read_rows, wrongly_correct
from diffsmooth.shown_text import quoted, shown
from diffsmooth.stats import ABSTAIN
from diffsmooth.stats.bounds import votes_to_reach
from diffsmooth.stats.printed import counted, digits_up
from diffsmooth.stats.results import NO_LABEL

MOST_COUNTS = 200_000  # votes: beyond, the radii of all counts take long, and lie too close to tell
ROUNDING = 1e-7  # relative, of other people's quantiles and of a sigma in float32
MOST_ALPHA = 0.5  # nobody certifies at more
LEFT_OUT = 3  # radii of no count that are named


class Row(NamedTuple):
    """A row of a table: each column as text, and as a number; NaN where it is not what it holds."""

    cells: Mapping[str, str]
    numbers: Mapping[str, float]

    @property
    def certified(self) -> bool:
        """Whether it has a radius."""
        return self.numbers.get(RADIUS, 0.0) > 0 and self.numbers["predict"] != ABSTAIN


class TableFindings(NamedTuple):
    """What was found of a table.

    Attributes:
        verdict: see `check_table`.
        text: why, in one line.
        lines: what is told of single lines.
    """

    verdict: Literal["contradicts", "consistent", "cannot tell"]
    text: str
    lines: tuple[str, ...]


def check_table(path: Path, stated: VerifyOptions) -> TableFindings:
    """The verdict on a table.

    contradicts: some line cannot be, whoever voted. consistent: each radius is, as far as it is
    printed, the one that some count of N votes gives. Otherwise nobody can tell.

    Args:
        path: the file.
        stated: N, alpha, sigma and the number of classes, as far as they are known.

    Raises:
        UserError: it is no table.
    """
    found = read_rows(path)
    cells, numbers = found.cells.to_dict("index"), found.numbers.to_dict("index")
    rows: dict[int, Row] = {line: Row(cells[line], numbers[line]) for line in cells}  # type: ignore
    has_radii, remarks = RADIUS in found.cells, list(found.remarks)
    count = wrongly_correct(found.numbers)
    if count is None:
        remarks.append("column correct is a running count")
    negative = sum(row.numbers.get(RADIUS, 0.0) < 0 for row in rows.values())
    remarks += [f"{negative} radii are negative, and certify nothing"] if negative else []
    wrong = list(_impossible(rows, stated, () if count is None else count.tolist()))
    certified = {line: row for line, row in rows.items() if row.certified}
    n, alpha, sigma = stated.n, stated.alpha, stated.sigma
    all_stated = n is not None and alpha is not None and sigma is not None
    unfit, share, beyond = list[int](), 1.0, 0.0
    if n is not None and alpha is not None and sigma is not None:
        spans = _spans({line: row.cells[RADIUS] for line, row in certified.items()})
        largest = radius_of(largest_bound(n, mp.mpf(alpha)), mp.mpf(sigma))
        most = f"{n} votes give {mp.nstr(largest, 7)} at most"
        for line, (low, _) in spans.items():
            if low > largest:
                wrong.append((line, f"radius is {rows[line].cells[RADIUS]}, {most}"))
                beyond = max(beyond, low)
        if beyond:
            remarks.append(_what_would_do(beyond, n, alpha, sigma))
        if n <= MOST_COUNTS:
            unfit, share = _of_no_count(spans, n, alpha, sigma)

    def told(line: int, text: str) -> str:
        return shown(f"{path.name}, line {line}, image {rows[line].cells['idx']}: {text}")

    notes = tuple(f"note: {remark}" for remark in remarks)
    setting = f"of {n} votes at alpha {alpha} and sigma {sigma}"
    if wrong:
        lines = tuple(told(*one) for one in sorted(wrong))
        text = f"{len({line for line, _ in wrong})} of {len(rows)} lines cannot be"
        # Of many lines the first are shown.
        return TableFindings("contradicts", text, (*notes, *lines))
    text = f"nothing in {counted(len(rows), 'line')} contradicts"
    if not has_radii:
        return TableFindings("cannot tell", f"{text}, and there are no radii", notes)
    if not certified:
        return TableFindings("cannot tell", f"{text}, and no image is certified", notes)
    if not all_stated:
        text += ", but which radii there can be follows from --N, --alpha and --sigma"
        return TableFindings("cannot tell", text, notes)
    if n is not None and n > MOST_COUNTS:
        text += f"; the radii of {n:,} votes lie too close to be told apart"
        return TableFindings("cannot tell", text, notes)
    if unfit:
        some = tuple(told(line, f"radius is {rows[line].cells[RADIUS]}") for line in unfit)
        text += f", but {len(unfit)} of {len(certified)} radii are those of no count {setting}"
        return TableFindings("cannot tell", text, (*some[:LEFT_OUT], *notes))
    each = f"each of {len(certified)} radii" if len(certified) > 1 else "its radius"
    text += f"; {each} is, as printed, that of some count {setting}"
    text += f" (a radius at random: {digits_up(100 * share, 2)} %)"
    return TableFindings("consistent", text, notes)


def _what_would_do(radius: float, n: int, alpha: float, sigma: float) -> str:
    """Which N or alpha allow a radius that n votes at alpha do not; not that a run had them."""
    votes, level = votes_to_reach(radius, sigma, alpha), math.exp(n * log_ndtr(radius / sigma))
    enough = [f"{votes:,} votes at alpha {alpha}"] if votes < math.inf else []
    enough += [f"{n:,} votes at alpha {digits_up(level, 2)}"] if level < MOST_ALPHA else []
    if not enough:
        return "neither a billion votes nor an alpha of 0.5 would allow all these radii"
    return (
        f"{' or '.join(enough)} would allow all these radii, and fewer or a smaller one would not; "
        "whether the run had that, the table does not tell"
    )


def _impossible(
    rows: Mapping[int, Row], stated: VerifyOptions, not_correct: Any
) -> Iterator[tuple[int, str]]:
    """Lines that cannot be, whoever voted: their numbers, and why."""
    unknown = all(row.numbers["label"] == NO_LABEL for row in rows.values())
    first = dict[float, int]()
    for line, (cells, numbers) in rows.items():
        sound = True
        for name, number in numbers.items():
            if math.isnan(number) and name != "time":
                sound = False
                yield line, f"{name} is {quoted(cells[name])}, not {KINDS.get(name, 'a count')}"
        index = numbers["idx"]
        if index in first:
            yield line, f"idx stands on line {first[index]}, too"
        first.setdefault(index, line)
        for name in ("label", "predict"):
            if stated.classes is not None and numbers[name] >= stated.classes:
                yield line, f"{name} is {cells[name]}, but there are {stated.classes} classes"
        if line in not_correct and sound and not unknown:
            yield line, f"correct is {cells['correct']}, which is not predict = label"
        if numbers["predict"] == ABSTAIN and numbers.get(RADIUS, 0.0) > 0:
            yield line, f"radius is {cells[RADIUS]}, but it abstains"


def _spans(cells: Mapping[int, str]) -> dict[int, tuple[float, float]]:
    """Between which each radius lies that is printed so, rounded to the nearest or down; by line.

    Some tools drop zeros at the end, so what one cell leaves out is told by the others: all have
    the same number of digits, or of decimals, whichever is coarser.
    """
    radii = {line: Decimal(cell) for line, cell in cells.items()}
    digits = max((len(radius.as_tuple().digits) for radius in radii.values()), default=1)
    decimals = max((-int(radius.as_tuple().exponent) for radius in radii.values()), default=0)
    spans = {}
    for line, radius in radii.items():
        step = 10.0 ** max(radius.adjusted() - digits + 1, -decimals)
        value = float(radius)
        slack = ROUNDING * value
        spans[line] = value - step / 2 - slack, value + step + slack
    return spans


def _of_no_count(
    spans: Mapping[int, tuple[float, float]], n: int, alpha: float, sigma: float
) -> tuple[list[int], float]:
    """The lines whose radius is that of no count of n votes, and what share of radii is of one.

    Args:
        spans: the radii, each between two numbers, by line.
        n, alpha, sigma: see `check_table`.

    Returns:
        The lines; and, of all radii up to the largest, the share that would pass if printed so.
    """
    counts = np.arange(max(1, n // 2), n)  # fewer certify nothing, unless alpha is above 1/2
    bounds = np.append(betaincinv(counts, n - counts + 1, alpha), alpha ** (1 / n))
    radii = float(float32_or_less(sigma)) * ndtri(bounds[bounds > 0.5])
    unfit = [
        line
        for line, (low, high) in spans.items()
        if np.searchsorted(radii, low) == np.searchsorted(radii, high, "right")
    ]
    if not len(radii) or not spans:
        return unfit, 1.0
    width = float(np.median([high - low for low, high in spans.values()]))
    return unfit, float(np.minimum(np.diff(radii, prepend=0.0), width).sum() / radii[-1])
