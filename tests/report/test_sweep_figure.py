"""The outcome of a sweep, its table and its figure, on results written by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from scipy.stats import binomtest

from diffsmooth.models.sweep import Setting
from diffsmooth.report.figures import save_figure
from diffsmooth.report.sweep_figure import sweep_figure
from diffsmooth.report.sweep_table import SweepOutcome, judge, sweep_frame, sweep_text
from diffsmooth.stats import Results


def results(radii: list[float]) -> Results:
    """All right, with such radii."""
    index = np.arange(len(radii))
    label = np.zeros(len(radii), dtype=np.int64)
    return Results(index, label, label, np.array(radii), np.full(len(radii), np.nan), 1.0)


def held(count: int, radius: float = 0.6) -> Results:
    """Of 20 images, the first few are certified at a radius, the others at 0.1."""
    return results([radius] * count + [0.1] * (20 - count))


def sweep(runs: dict[tuple[float, int], Results], trained: float | None = 0.25) -> SweepOutcome:
    settings = [Setting(*pair) for pair in runs]
    return judge(settings, list(runs.values()), 0.5, 0.5, trained)


def test_the_best_has_the_highest_certified_accuracy_at_the_radius() -> None:
    # The other has larger radii elsewhere.
    outcome = sweep({(0.3, 5): held(11), (0.2, 1): held(12, 0.5), (0.3, 1): held(10, 0.9)})
    assert outcome.best.setting == Setting(0.2, 1)
    assert outcome.best.accuracy == pytest.approx(0.6)
    exact = binomtest(12, 20).proportion_ci(0.95, method="exact")
    assert (outcome.best.low, outcome.best.high) == pytest.approx((exact.low, exact.high))
    assert outcome.best.average_radius == pytest.approx((12 * 0.5 + 8 * 0.1) / 20)
    assert [row.setting for row in outcome.rows] == [(0.2, 1), (0.3, 1), (0.3, 5)]


@pytest.mark.parametrize(
    ("runs", "trained", "best"),
    [
        ({(0.2, 1): held(9), (0.3, 9): held(9, 0.7)}, 0.25, (0.3, 9)),  # larger average radius
        ({(0.25, 9): held(9), (0.4, 3): held(9)}, 0.25, (0.4, 3)),  # cheaper
        ({(0.1, 3): held(9), (0.27, 3): held(9), (0.2, 3): held(9)}, 0.25, (0.27, 3)),
        ({(0.35, 3): held(9), (0.3, 3): held(9)}, None, (0.3, 3)),
    ],
    ids=["average radius", "smaller m", "nearest to sigma'", "sigma' not known"],
)
def test_ties(
    runs: dict[tuple[float, int], Results], trained: float | None, best: tuple[float, int]
) -> None:
    for order in (runs, dict(reversed(runs.items()))):
        assert sweep(order, trained).best.setting == best


def test_what_these_images_cannot_tell_from_the_best() -> None:
    # Of nested certified images 6 discordant ones are the fewest that tell: 2 / 2^6 = 0.031.
    outcome = sweep({(0.2, m): held(count) for m, count in ((1, 9), (3, 10), (5, 15))})
    assert outcome.best.setting == Setting(0.2, 5)
    assert [row.p_value for row in outcome.rows] == pytest.approx([2 / 2**6, 2 / 2**5, 1.0])
    assert [row.setting.m for row in outcome.alike] == [3]


def test_the_table_and_the_frame() -> None:
    outcome = sweep({(0.2, m): held(count) for m, count in ((1, 9), (3, 10), (5, 15))})
    text = sweep_text(outcome)
    header, *rows = text.splitlines()
    assert "certified accuracy at 0.5" in header
    assert rows[0].split() == (
        ["0.2", "1", "0.450", "0.230", "..", "0.685", "0.325", "differs", "(p", "0.032)"]
    )
    assert rows[1].endswith("not told apart (p 0.063)")
    assert rows[2].endswith("<- taken")
    assert "taken: sigma_local 0.2, m 5; 20 images, of which 15 are certified" in text
    assert "1 of the 2 others cannot be told from it" in text
    assert "looks a little better than it is" in text
    frame = sweep_frame(outcome)
    assert list(frame.columns) == [
        "sigma_local", "m", "certified_accuracy", "low", "high", "average_certified_radius",
        "p_value",
    ]  # fmt: skip
    assert frame["certified_accuracy"].tolist() == [0.45, 0.5, 0.75]


def test_one_setting_is_the_best_of_no_others() -> None:
    text = sweep_text(sweep({(0.2, 1): held(9)}))
    assert "taken: sigma_local 0.2, m 1" in text
    assert "looks a little better" not in text


@pytest.mark.parametrize("trained", [0.25, None])
def test_the_figure_shows_each_setting_with_its_interval(trained: float | None) -> None:
    runs = {(s, m): held(8 + m) for s in (0.2, 0.3, 0.5) for m in (1, 3)} | {(0.0, 1): held(2)}
    outcome = sweep(runs, trained)
    figure = sweep_figure(outcome)
    (axes,) = figure.axes
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["m = 1", "m = 3"]
    for bar, m in zip(bars, (1, 3), strict=True):
        line, _, (segments,) = bar.lines
        assert line is not None
        expected = [row for row in outcome.rows if row.setting.m == m]
        levels = np.array([row.setting.sigma_local for row in expected])
        assert np.abs(np.asarray(line.get_xdata()) - levels).max() < 0.05  # half of the least gap
        assert np.asarray(line.get_ydata()).tolist() == [row.accuracy for row in expected]
        ends = [(p[0][1], p[1][1]) for p in segments.get_segments()]
        assert np.allclose(ends, [(row.low, row.high) for row in expected])
    first, second = (np.asarray(bar.lines[0].get_xdata())[-1] for bar in bars)  # type: ignore[union-attr]
    assert first < second  # dodged
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["m = 1", "m = 3", *(["sigma' = 0.25"] if trained else []), "taken"]
    assert "[0, 1] pixel units" in axes.get_xlabel()
    assert axes.get_ylabel() == "certified accuracy at l2 radius 0.5"
    figure.savefig(io.BytesIO())  # raises where something does not fit


def test_a_sweep_of_one_point_has_a_figure(tmp_path: Path) -> None:
    save_figure(sweep_figure(sweep({(0.25, 1): held(9)})), tmp_path / "o.png")
    assert (tmp_path / "o.png").is_file()
