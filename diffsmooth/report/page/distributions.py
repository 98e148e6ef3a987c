"""Histograms over the images of radii, votes and seconds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.report.page.axis import Axis, fitting_axis
from diffsmooth.report.page.text import short_number, short_radius
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN, Results

BINS = 36


class Bar(NamedTuple):
    """Images of one bin, percent of the panel; those predicted wrongly lie on top.

    Attributes:
        left, width: along the axis.
        right, wrong: heights; together they grow as the square root of the count, so that small
            bars are seen beside a large one, and they share it as they share the count.
        text: the bin and its count.
    """

    left: float
    width: float
    right: float
    wrong: float
    text: str


class Panel(NamedTuple):
    """One run's histogram.

    Attributes:
        images: how many are counted, "" without bars.
        bars: none where nothing is known.
        summary: the values in short, or why nothing is known.
    """

    images: str
    bars: list[Bar]
    summary: str


class Distribution(NamedTuple):
    """Histograms of one quantity, one a run, on one axis.

    Attributes:
        title, unit: the quantity's.
        axis: the axis of all panels.
        panels: one a run.
        splits: whether the bars tell right from wrong.
    """

    title: str
    unit: str
    axis: Axis
    panels: list[Panel]
    splits: bool


class _Values(NamedTuple):
    """float64 (N,) of N images, whether each is wrong (bool), and what to say if N = 0."""

    values: np.ndarray
    wrong: np.ndarray
    nothing: str


def distributions(runs: Sequence[Run]) -> list[Distribution]:
    """Certified radii, votes an image and seconds an image."""
    found = []
    for title, unit, values_of, text, splits in (
        ("Certified radius", "l2 radius (in [0, 1] pixel units)", _radii, short_radius, True),
        ("Votes an image", "votes", _votes, short_number, False),
        ("Seconds an image", "seconds", _seconds, short_number, False),
    ):
        sets = [values_of(run.results) for run in runs]
        axis = fitting_axis(np.concatenate([one.values for one in sets]), may_be_log=not splits)
        panels = [
            _panel(data, len(run.results), axis, text) for run, data in zip(runs, sets, strict=True)
        ]
        found.append(Distribution(title, unit, axis, panels, splits))
    return found


def _radii(results: Results) -> _Values:
    if not results.certifies:
        return _Values(np.zeros(0), np.zeros(0, bool), "n/a: predictions have no radii")
    certified = results.prediction != ABSTAIN
    return _Values(results.radius[certified], ~results.correct[certified], "none certified")


def _votes(results: Results) -> _Values:
    return _costs(np.zeros(0) if results.votes is None else results.votes.astype(np.float64))


def _seconds(results: Results) -> _Values:
    return _costs(results.seconds[~np.isnan(results.seconds)])


def _costs(values: np.ndarray) -> _Values:
    return _Values(values, np.zeros(len(values), bool), "n/a: the file does not tell")


def _panel(data: _Values, images: int, axis: Axis, text: Callable[[float], str]) -> Panel:
    if not len(data.values):
        return Panel("", [], data.nothing)
    spaced = np.geomspace if axis.log else np.linspace
    edges = spaced(axis.low, axis.high, BINS + 1)
    edges[[0, -1]] = axis.low, axis.high  # geomspace may miss them by a rounding
    counts = np.histogram(data.values, edges)[0]
    wrong = np.histogram(data.values[data.wrong], edges)[0]
    places = axis.places(edges)
    heights = 100 * np.sqrt(counts / counts.max())
    above = heights * wrong / np.maximum(counts, 1)
    some = len(data.values) < images
    counted = f"{len(data.values)} of {images}" if some else str(images)
    bars = [
        Bar(
            float(places[i]),
            round(float(places[i + 1] - places[i]), 3),
            round(float(heights[i] - above[i]), 3),
            round(float(above[i]), 3),
            f"{text(edges[i])} to {text(edges[i + 1])}: {counts[i]}"
            + (f", {wrong[i]} of them wrong" if data.wrong.any() else ""),
        )
        for i in np.flatnonzero(counts)
    ]
    return Panel(f"{counted} images", bars, _summary(data.values, text))


def _summary(values: np.ndarray, text: Callable[[float], str]) -> str:
    if np.ptp(values) == 0:
        return f"{text(float(values[0]))} for all"
    first, median, third = (text(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"median {median}, quartiles {first} and {third}"
