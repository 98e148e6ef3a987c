"""The curve of certified accuracy against radius, as SVG paths and as text at each radius."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.report.page.axis import Axis
from diffsmooth.report.page.text import listed, radius_labels
from diffsmooth.report.radii import curve_radii, top_radius
from diffsmooth.report.text import MISSING, at_least_text, interval_text
from diffsmooth.runs.attacked import AttackRun
from diffsmooth.runs.reading import Run
from diffsmooth.stats import certified_accuracy, certified_accuracy_interval
from diffsmooth.stats.printed import counted, radius_label, rounded_up


class Dot(NamedTuple):
    """A measured radius with its interval, in percent of the plot from its top left."""

    x: float
    y: float
    low: float
    high: float


class Line(NamedTuple):
    """One run's part of the figure, or that of attacks; it lies in a square of 100 by 100.

    Attributes:
        name: in the legend.
        run: number of the run, whose colour it has.
        path: steps through the accuracies, SVG.
        area: the intervals, SVG; "" where each dot has its own.
        dots: what a run has that measured single radii only.
        heights: from the top, one a radius of the curve; None where not measured.
        texts: accuracy and interval, one a radius; of attacks what they left, an upper bound.
        is_attack: whether it is what attacks left.
    """

    name: str
    run: int
    path: str
    area: str
    dots: list[Dot]
    heights: list[float | None]
    texts: list[str]
    is_attack: bool = False


class Curve(NamedTuple):
    """Certified accuracy of all runs.

    Attributes:
        x, y: axes.
        places: places of the radii, percent of the x axis, ascending.
        radii: the same as text.
        start: number of the radius that is shown first.
        lines: one a run, then one for each run of attacks.
        finding: what the figure says, in words.
    """

    x: Axis
    y: Axis
    places: list[float]
    radii: list[str]
    start: int
    lines: list[Line]
    finding: str


def accuracy_curve(
    runs: Sequence[Run],
    radii: np.ndarray,
    attacks: Sequence[tuple[AttackRun, Run]] = (),
    decimals: int = 3,
) -> Curve:
    """The curve of runs with at least one image each.

    Args:
        radii: the table's radii, float64 (R,), ascending; they are among the curve's.
        attacks: each with the run that was attacked; those on images without labels have no line.
        decimals: of the numbers.
    """
    right = max(top_radius(run.results) for run in runs) or 1.0
    points = curve_radii([run.results for run in runs], radii)
    x, y = Axis(0.0, right * 1.02), Axis(0.0, 1.0)
    lines = [_line(run, i, points, x, y, decimals) for i, run in enumerate(runs)]
    names = [run.name for run in runs]
    lines += [
        _attack_line(one, names.index(run.name), points, x, y, decimals)
        for one, run in attacks
        if one.found.is_labelled
    ]
    return Curve(
        x,
        y,
        x.places(points).tolist(),
        radius_labels(points),
        int(np.abs(points - radii[len(radii) // 2]).argmin()),
        lines,
        _finding(runs, radii, decimals),
    )


def _line(run: Run, number: int, points: np.ndarray, x: Axis, y: Axis, decimals: int) -> Line:
    results = run.results
    accuracy = certified_accuracy(results, points)
    _, first, same = np.unique(accuracy, return_index=True, return_inverse=True)
    interval = certified_accuracy_interval(results, points[first])[same]  # each takes a millisecond
    measured = np.flatnonzero(~np.isnan(accuracy))
    places = x.places(points)[measured]
    height, low, high = (
        100 - y.places(values)[measured] for values in (accuracy, interval[:, 0], interval[:, 1])
    )
    single = bool(results.grid) or not results.certifies
    heights: list[float | None] = [None] * len(points)
    for i, value in zip(measured, height, strict=True):
        heights[i] = round(float(value), 3)
    texts = [
        _reading(value, low_end, high_end, decimals)
        for value, (low_end, high_end) in zip(accuracy, interval, strict=True)
    ]
    back = "".join(f"H{a:.3f}V{b:.3f}" for a, b in zip(places[-2::-1], low[-2::-1], strict=True))
    return Line(
        run.name,
        number,
        _steps(places, height),
        "" if single else f"{_steps(places, high)}V{low[-1]:.3f}{back}Z",
        [Dot(*map(float, dot)) for dot in zip(places, height, low, high, strict=True)]
        if single
        else [],
        heights,
        texts,
    )


def _attack_line(
    one: AttackRun, number: int, points: np.ndarray, x: Axis, y: Axis, decimals: int
) -> Line:
    """What attacks left, abstaining being right; it holds up to the next radius, which has less."""
    left = one.found.accuracy(points, abstained_is_right=True)
    places, heights = x.places(points), 100 - y.places(left)
    steps = (f"H{a:.3f}V{b:.3f}" for a, b in zip(places[1:], heights[1:], strict=True))
    return Line(
        f"{one.name}: left by attacks on {counted(len(one.found), 'image')}",
        number,
        f"M{places[0]:.3f} {heights[0]:.3f}" + "".join(steps),
        "",
        [],
        [round(float(height), 3) for height in heights],
        [f"<= {rounded_up(value, decimals)}" for value in left],
        is_attack=True,
    )


def _steps(places: np.ndarray, heights: np.ndarray) -> str:
    """A radius's accuracy holds down to the radius before, as no larger radius has more."""
    steps = (f"V{b:.3f}H{a:.3f}" for a, b in zip(places[1:], heights[1:], strict=True))
    return f"M{places[0]:.3f} {heights[0]:.3f}" + "".join(steps) if len(places) else ""


def _reading(accuracy: float, low: float, high: float, decimals: int) -> str:
    if np.isnan(accuracy):
        return MISSING
    return f"{at_least_text(accuracy, decimals)} [{interval_text(low, high, decimals, ', ')}]"


def _finding(runs: Sequence[Run], radii: np.ndarray, decimals: int) -> str:
    """Who certifies most at the first and the last radius of the table that was measured."""
    table = np.array([certified_accuracy(run.results, radii) for run in runs])
    measured = np.flatnonzero(~np.isnan(table).all(axis=0))
    sentences = []
    for i in sorted({measured[0], measured[-1]}) if len(measured) else []:
        known = sorted(
            ((-table[k, i], run.name) for k, run in enumerate(runs) if not np.isnan(table[k, i]))
        )
        values = [
            at_least_text(-value, decimals) + f" ({name})" * (len(runs) > 1)
            for value, name in known
        ]
        if len(values) > 4:
            values = [f"from {values[0]} down to {values[-1]}"]
        sentences.append(f"at radius {radius_label(radii[i])} it is {listed(values)}")
    return "Certified accuracy: " + ("; ".join(sentences) or "not measured at these radii") + "."
