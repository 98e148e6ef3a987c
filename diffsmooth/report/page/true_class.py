"""The distribution of p_A over the images of all runs, as SVG paths."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.report.page.axis import Axis
from diffsmooth.report.page.text import listed
from diffsmooth.report.text import at_least_text
from diffsmooth.report.true_class import true_class_curves
from diffsmooth.runs.reading import Run

LEVEL = 0.5  # above which f's majority is right


class TrueClassLine(NamedTuple):
    """One run's curves, in a square of 100 by 100.

    Attributes:
        run: number of the run, whose name and colour it has.
        lower: of the lower bound of p_A, SVG.
        share: of the true class's share of the votes, SVG; "" where not known.
    """

    run: int
    lower: str
    share: str


class TrueClassFigure(NamedTuple):
    """The curves of the runs that tell p_A, none if no run does.

    Attributes:
        x, y: axes.
        lines: one a run that tells.
        finding: what the figure says, in words.
        missing: names of the runs that do not tell.
    """

    x: Axis
    y: Axis
    lines: list[TrueClassLine]
    finding: str
    missing: list[str]


def true_class_figure(runs: Sequence[Run], decimals: int = 3) -> TrueClassFigure:
    """The figure of runs with at least one image each."""
    x, y = Axis(0.0, 1.0), Axis(0.0, 1.0)
    lines, findings = [], []
    for i, run in enumerate(runs):
        if run.results.true_class is None:
            continue
        levels, lower, share = true_class_curves(run.results)
        lines.append(TrueClassLine(i, _steps(levels, lower, x, y), _steps(levels, share, x, y)))
        at = at_least_text(lower[np.searchsorted(levels, LEVEL)], decimals)
        findings.append(f"{at} ({run.name})" if len(runs) > 1 else at)
    missing = [run.name for run in runs if run.results.true_class is None]
    finding = f"Share of images with a lower bound of p_A of at least {LEVEL}: {listed(findings)}."
    return TrueClassFigure(x, y, lines, finding, missing)


def _steps(levels: np.ndarray, shares: np.ndarray, x: Axis, y: Axis) -> str:
    """A level's share holds down to the level before, as no higher level has more."""
    if np.isnan(shares).any():
        return ""
    kept = np.append(np.flatnonzero(np.diff(shares)), len(shares) - 1)  # where steps end
    places, heights = x.places(levels)[kept], 100 - y.places(shares)[kept]
    steps = "".join(f"V{b:.3f}H{a:.3f}" for a, b in zip(places, heights, strict=True))
    return f"M0 {heights[0]:.3f}{steps}"
