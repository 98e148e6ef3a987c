"""The figure of certified accuracy against radius."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsmooth.report.radii import curve_radii, top_radius
from diffsmooth.report.text import is_comparable
from diffsmooth.report.true_class import true_class_curves
from diffsmooth.shown_text import shown
from diffsmooth.stats import (
    Results,
    certified_accuracy,
    certified_accuracy_interval,
    upper_envelope,
)
from diffsmooth.stats.empirical import Empirical
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure

DPI = 150
STYLES = ("-", "--", "-.", ":")  # so that the lines differ in grey, too
# Colours that the colour-blind tell apart. Source: Okabe & Ito 2008.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
ENDINGS = (".png", ".pdf", ".svg")
MARGIN = 1.02  # of the axis, beyond the largest radius
LINE_LETTERS, NAME_LETTERS, KEY_LETTERS = 90, 72, 8  # of a legend's line, a name, and a line's key


def accuracy_figure(
    runs: Mapping[str, Results],
    envelope: bool = False,
    attacks: Mapping[str, Empirical] | None = None,
    radii: Sequence[float] | np.ndarray = (),
) -> "Figure":
    """Certified accuracy against radius, one line a run, 95 % intervals shaded.

    A run of a grid has a marker with its interval at each radius of the grid, joined by thin dots.
    Where votes are known, the distribution of p_A stands beside it: a line for its lower bound, and
    a thin one for the true class's share of the votes.

    Args:
        runs: results by the run's name; at least one.
        envelope: adds the best accuracy at each radius, as a broad grey line behind the others.
        attacks: what attacks left, by name: upper bounds, where abstaining counts as right.
        radii: of the tables; the lines are exact there.

    Raises:
        UserError: an envelope of runs of which none can be compared with the others.
    """
    from matplotlib.figure import Figure  # slow: not for help and mistakes

    told = any(results.true_class for results in runs.values())
    figure = Figure(figsize=(11.0 if told else 7.0, 4.2), layout="constrained")
    axes, *beside = figure.subplots(1, 1 + told, squeeze=False, width_ratios=[3, 2][: 1 + told])[0]
    axes.set_prop_cycle(color=COLOURS)
    handles, right = _draw_curves(axes, list(runs.values()), radii)
    for other in beside:
        _draw_true_class(other, list(runs.values()))
    names = [shown(name, NAME_LETTERS) for name in runs]
    if envelope:
        points = curve_radii(list(runs.values()), radii)
        able = [r for r in runs.values() if is_comparable(r, list(runs.values()))]
        best = upper_envelope(able, points).accuracy
        known = ~np.isnan(best)
        handles += axes.plot(
            points[known], best[known], drawstyle="steps-pre", color="0.8", linewidth=5, zorder=0,
        )  # fmt: skip
        names.append("upper envelope")
    for i, (name, found) in enumerate((attacks or {}).items()):
        norms = found.wrong_from[np.isfinite(found.wrong_from)]
        points = curve_radii(list(runs.values()), [*radii, *norms])
        left = found.accuracy(points, abstained_is_right=True)
        style = STYLES[(i + 3) % len(STYLES)]
        handles += axes.plot(points, left, style, drawstyle="steps-post", color="0.35")
        names.append(shown(f"{name}: left by attacks", NAME_LETTERS))
    _dress(axes, right, any(results.grid for results in runs.values()))
    if len(names) > 1:
        longest = max(map(len, names))
        legend = figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=max(1, min(len(names), 3, LINE_LETTERS // (longest + KEY_LETTERS))),
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name's dollars are dollars
    else:
        axes.set_title(names[0], fontsize="medium", parse_math=False)
    return figure


def plot(*results: Results, labels: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
    """Draws certified accuracy against radius, one line a run, 95 % intervals shaded.

    Args:
        results: of runs, at least one.
        labels: one each, for the legend.
        ax: to draw into, beside what is there; None for new ones of pyplot's.

    Raises:
        UserError: no results, results without labels of their images, or other labels than runs.
    """
    if not results or len(labels) not in (0, len(results)):
        raise UserError(f"plot wants results, and a label each, got {len(results)}, {len(labels)}")
    right, has_grid = 0.0, any(one.grid for one in results)
    if ax is None:
        import matplotlib.pyplot as plt  # slow

        _, ax = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
        ax.set_prop_cycle(color=COLOURS)
    elif ax.has_data():
        right = ax.get_xlim()[1] / MARGIN
        has_grid |= ax.get_xlim()[0] < 0  # of a run of a grid that is there already
    before = ax.get_legend_handles_labels() if labels else ([], [])
    handles, reach = _draw_curves(ax, results)
    _dress(ax, max(right, reach), has_grid)
    for handle, label in zip(handles, labels, strict=bool(labels)):
        handle.set_label(label)
    if labels:
        legend = ax.legend([*before[0], *handles], [*before[1], *labels])
        for text in legend.get_texts():
            text.set_parse_math(False)
    return ax


def _draw_curves(
    axes: "Axes", runs: Sequence[Results], radii: Sequence[float] | np.ndarray = ()
) -> tuple[list[Any], float]:
    """The lines and error bars, one a run, and the largest radius that they reach."""
    handles: list[Any] = []
    right = 0.0
    for i, results in enumerate(runs):
        top = top_radius(results)
        right = max(right, top)
        if results.grid:
            handles.append(_draw_grid(axes, results))
            continue
        points = curve_radii([results], radii)
        interval = certified_accuracy_interval(results, points)
        (line,) = axes.plot(
            points,
            certified_accuracy(results, points),
            STYLES[i % len(STYLES)],
            drawstyle="steps-pre",
        )
        handles.append(line)
        axes.fill_between(
            points, interval[:, 0], interval[:, 1], step="pre", color=line.get_color(), alpha=0.15
        )
    return handles, right


def _draw_true_class(axes: "Axes", runs: Sequence[Results]) -> None:
    """The distribution of p_A of each run that tells it, in its colour and style."""
    for i, results in enumerate(runs):
        if results.true_class is None:
            continue
        levels, lower, share = true_class_curves(results)
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        axes.plot(levels, lower, style, drawstyle="steps-pre", color=colour)
        axes.plot(levels, share, ":", drawstyle="steps-pre", color=colour, linewidth=0.8)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("p_A: lower bound (thin dots: share of the votes)")
    axes.set_ylabel("share of images with at least that")
    axes.grid(alpha=0.3)


def _dress(axes: "Axes", right: float, has_grid: bool) -> None:
    # The marker and the interval at radius 0 of a grid would lie on the axis.
    axes.set_xlim(-0.02 * right if has_grid else 0.0, right * MARGIN or 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("l2 radius (in [0, 1] pixel units)")
    axes.set_ylabel("certified accuracy")
    axes.grid(alpha=0.3)


def _draw_grid(axes: "Axes", results: Results) -> "ErrorbarContainer":
    radii = np.array(results.grid)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    return axes.errorbar(
        radii,
        accuracy,
        yerr=np.abs(interval - accuracy[:, None]).T,
        fmt="o:",
        drawstyle="steps-pre",
        linewidth=0.8,
        markersize=4,
    )


def figure_bytes(figure: "Figure", ending: str) -> bytes:
    """The figure as a PNG, PDF or SVG, by the ending of its file's name.

    Raises:
        UserError: another ending.
    """
    if ending.lower() not in ENDINGS:
        raise UserError(f"a figure's name must end in {' or '.join(ENDINGS)}, not {ending!r}")
    content = io.BytesIO()
    with any_letters():
        figure.savefig(content, format=ending.lower()[1:], dpi=DPI)
    return content.getvalue()


@contextmanager
def any_letters() -> Iterator[None]:
    """While a figure is drawn: letters that its font lacks are boxes, and nothing more is said."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG, PDF or SVG, by the ending of `path`, whole or not at all.

    Raises:
        UserError: another ending.
    """
    write_whole(path, figure_bytes(figure, path.suffix))
