"""The figure of a sweep: certified accuracy against sigma_local, one line a number of copies."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
    """Certified accuracy at the sweep's radius with 95 % intervals, a little apart for each m.

    A grey line marks sigma', a ring the setting that is taken.
    """
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
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
        accuracy = np.array([row.accuracy for row in rows])
        interval = np.array([(row.low, row.high) for row in rows])
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
        mark = axes.axvline(
            outcome.trained,
            color="0.8",
            linewidth=4.0,
            zorder=0,
            label=f"sigma' = {exact(outcome.trained)}",
        )
        shown.append(mark)
    best = outcome.best
    shown += axes.plot(
        [best.setting.sigma_local + offsets[numbers.index(best.setting.m)]],
        [best.accuracy],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="black",
        label="taken",
        zorder=5,
    )
    axes.set_xlabel("sigma_local (standard deviation, in [0, 1] pixel units)")
    axes.set_ylabel(f"certified accuracy at l2 radius {exact(outcome.radius)}")
    axes.set_title(
        f"sigma {exact(outcome.sigma)}, {outcome.images} held-out training images, 95 % intervals",
        fontsize="medium",
    )
    axes.grid(alpha=0.3)
    figure.legend(handles=shown, loc="outside right upper", frameon=False)
    return figure
