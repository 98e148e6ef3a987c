"""`diffsmooth.plot`: certified accuracy against radius in axes of pyplot's or one's own."""

from collections.abc import Iterator
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

import diffsmooth
from diffsmooth.report.figures import COLOURS
from diffsmooth.stats import Results, certified_accuracy
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import NO_LABEL


@pytest.fixture(autouse=True)
def _agg() -> Iterator[None]:
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def test_a_line_is_the_certified_accuracy(results: Results) -> None:
    axes = diffsmooth.plot(results)
    (line,) = axes.lines
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    np.testing.assert_array_equal(y, certified_accuracy(results, x))
    assert (x[0], x[-1]) == (0.0, 0.95)
    assert to_hex(line.get_color()).upper() == COLOURS[0]
    assert axes.get_legend() is None
    assert axes.get_xlabel() == "l2 radius (in [0, 1] pixel units)"


def test_several_have_labels_and_join_what_is_there(results: Results, on_grid: Results) -> None:
    _, own = plt.subplots()
    wide = replace(results, radius=2 * results.radius, max_radius=1.9)
    axes = diffsmooth.plot(results, wide, labels=["a", "$b"], ax=own)
    assert axes is own
    assert own.get_xlim()[1] == pytest.approx(1.9 * 1.02)
    diffsmooth.plot(on_grid, labels=["grid"], ax=own)
    assert own.get_xlim()[1] == pytest.approx(1.9 * 1.02)  # does not shrink
    legend = own.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "$b", "grid"]
    own.figure.canvas.draw()


def test_the_first_marker_of_a_grid_stays_whole(results: Results, on_grid: Results) -> None:
    axes = diffsmooth.plot(on_grid)
    left = axes.get_xlim()[0]
    assert left < 0
    assert diffsmooth.plot(results, ax=axes).get_xlim()[0] <= left


def test_what_cannot_be_drawn_is_refused(results: Results) -> None:
    with pytest.raises(UserError, match="plot wants results, and a label each, got 0, 0"):
        diffsmooth.plot()
    with pytest.raises(UserError, match="and a label each, got 1, 2"):
        diffsmooth.plot(results, labels=["a", "b"])
    with pytest.raises(UserError, match="there are no labels"):
        diffsmooth.plot(replace(results, label=np.full(10, NO_LABEL)))
