"""The figure of a sweep: the estimate against sigma_local, one line a number of copies."""

import numpy as np
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffsmooth.report.figures import COLOURS, STYLES
from diffsmooth.report.sweep_table import SweepOutcome
from diffsmooth.stats.printed import exact

MARKERS = ("o", "s", "^", "D", "v", "P")  # so that the lines differ in grey, too
# A level's points are spread over this share of the narrowest gap, or of the range if that is less.
DODGE_OF_GAP, DODGE_OF_RANGE = 0.6, 0.04


def sweep_figure(outcome: SweepOutcome) -> Figure:
    """Estimated certified accuracy with 95 % intervals, a little apart for each m.

    A grey line marks sigma', a ring the setting that is taken, a cross beside it what settings have
    that were chosen in the same way on images that did not choose them.
    """
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLOURS)
    levels = np.unique([row.setting.sigma_local for row in outcome.rows])
    numbers = sorted({row.setting.m for row in outcome.rows})
    gap, width = (np.diff(levels).min(), np.ptp(levels)) if len(levels) > 1 else (0.01, 0.1)
    spread = min(DODGE_OF_GAP * gap, DODGE_OF_RANGE * width)
    places = np.linspace(-0.5, 0.5, len(numbers)) if len(numbers) > 1 else np.zeros(1)
    offsets = spread * places
    shown: list[ErrorbarContainer | Line2D] = []  # in the legend's order
    for i, (m, offset) in enumerate(zip(numbers, offsets, strict=True)):
        rows = [row for row in outcome.rows if row.setting.m == m]
        accuracy = np.array([row.estimate.value for row in rows])
        interval = np.array([(row.estimate.low, row.estimate.high) for row in rows])
        bars = axes.errorbar(
            [row.setting.sigma_local + offset for row in rows],
            accuracy,
            yerr=np.abs(interval - accuracy[:, None]).T,
            fmt=MARKERS[i % len(MARKERS)],
            linestyle=STYLES[i % len(STYLES)],
            linewidth=1.0,
            elinewidth=0.8,
            markersize=4,
            capsize=2,
            label=f"m = {m}",
        )
        shown.append(bars)
    if outcome.trained is not None:
        label = f"sigma' = {exact(outcome.trained)}"
        shown.append(axes.axvline(outcome.trained, color="0.8", lw=4.0, zorder=0, label=label))
    best = outcome.best
    place = best.setting.sigma_local + offsets[numbers.index(best.setting.m)]
    shown += axes.plot(
        [place],
        [best.estimate.value],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="black",
        label="taken",
        zorder=5,
    )
    if outcome.fresh is not None:
        shown += axes.plot(
            [place],
            [outcome.fresh.value],
            "x",
            markersize=8,
            color="black",
            label="on images that\ndid not choose",
            zorder=6,
        )
    axes.set_xlabel("sigma_local (standard deviation, in [0, 1] pixel units)")
    goal = outcome.goal
    axes.set_ylabel(f"estimated certified accuracy at l2 radius {exact(goal.radius)}")
    axes.set_title(
        f"sigma {exact(outcome.sigma)}, planned N {goal.n}; {outcome.votes} votes on each of "
        f"{outcome.images} images, 95 % intervals\n{outcome.kind}",
        fontsize="medium",
    )
    axes.grid(alpha=0.3)
    figure.legend(handles=shown, loc="outside right upper", frameon=False)
    return figure
