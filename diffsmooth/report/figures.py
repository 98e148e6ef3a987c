"""The figure of certified accuracy against radius."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffsmooth.stats import Results, certified_accuracy, certified_accuracy_interval

DPI = 150
STYLES = ("-", "--", "-.", ":")  # so that the lines differ in grey, too


def accuracy_figure(runs: Mapping[str, Results]) -> Figure:
    """Certified accuracy against radius, one line a run, 95 % intervals shaded.

    A run of a grid has a marker with its interval at each radius of the grid, joined by thin dots.

    Args:
        runs: results by the run's name; at least one.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    right = 0.0
    for i, (name, results) in enumerate(runs.items()):
        if results.grid:
            right = max(right, results.grid[-1])
            _draw_grid(axes, name, results)
            continue
        top = results.max_radius or float(results.radius.max(initial=0.0))
        radii = np.linspace(0.0, top, 201)
        right = max(right, top)
        interval = certified_accuracy_interval(results, radii)
        (line,) = axes.plot(
            radii,
            certified_accuracy(results, radii),
            STYLES[i % len(STYLES)],
            drawstyle="steps-pre",
            label=name,
        )
        axes.fill_between(
            radii, interval[:, 0], interval[:, 1], step="pre", color=line.get_color(), alpha=0.15
        )
    axes.set_xlim(0.0, right * 1.02 or 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("l2 radius (in [0, 1] pixel units)")
    axes.set_ylabel("certified accuracy")
    axes.grid(alpha=0.3)
    if len(runs) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(runs), 3), frameon=False)
    else:
        axes.set_title(next(iter(runs)), fontsize="medium")
    return figure


def _draw_grid(axes: Axes, name: str, results: Results) -> None:
    radii = np.array(results.grid)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    axes.errorbar(
        radii,
        accuracy,
        yerr=np.abs(interval - accuracy[:, None]).T,
        fmt="o:",
        drawstyle="steps-pre",
        linewidth=0.8,
        markersize=4,
        label=name,
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, PDF or SVG, by the ending of `path`."""
    figure.savefig(path, dpi=DPI)
