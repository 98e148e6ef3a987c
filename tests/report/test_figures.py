"""The figure, by what is drawn in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.stats import Results


def test_a_grid_is_marked_at_its_points(results: Results, on_grid: Results) -> None:
    (axes,) = accuracy_figure({"fixed": results, "grid": on_grid}).axes
    line = axes.lines[1]
    assert line.get_xdata().tolist() == [0.2, 0.625, 1.0]
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.3, np.nan])
    assert (line.get_marker(), line.get_linestyle()) == ("o", ":")
    assert axes.lines[0].get_marker() == "None"
    assert axes.get_xlim()[0] < 0  # a marker at 0 would lie on the axis


def test_the_envelope_is_the_best_at_each_radius(results: Results) -> None:
    short = replace(results, prediction=np.zeros(10, dtype=int), radius=np.full(10, 0.3))
    (axes,) = accuracy_figure({"long": results, "short": short}, envelope=True).axes
    x, y = axes.lines[2].get_data()
    np.testing.assert_allclose(np.interp([0.25, 0.55], x, y), [1.0, 0.4])
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["long", "short", "upper envelope"]
    assert axes.lines[2].get_zorder() < axes.lines[0].get_zorder()


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_there_is_a_labelled_line_a_run(results: Results, tmp_path: Path, ending: str) -> None:
    figure = accuracy_figure({"one": results, "two": results})
    (axes,) = figure.axes
    assert len(axes.lines) == 2
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(np.interp(0.55, x, y), 0.4)
    assert "[0, 1] pixel units" in axes.get_xlabel()
    path = tmp_path / f"f.{ending}"
    save_figure(figure, path)
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_no_markup(results: Results, tmp_path: Path) -> None:
    figure = accuracy_figure({"_hidden": results, "$2$": results, r"x$\foo$": results})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["_hidden", "$2$", r"x$\foo$"]
    save_figure(figure, tmp_path / "f.png")
    save_figure(accuracy_figure({r"x$\foo$": results}), tmp_path / "g.PNG")


def test_the_envelope_of_a_grid_passes_its_points(on_grid: Results) -> None:
    (axes,) = accuracy_figure({"grid": on_grid}, envelope=True).axes
    assert axes.lines[-1].get_xdata().tolist() == [0.2, 0.625]


def test_other_endings_are_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png or \.pdf or \.svg, not '\.bmp'"):
        save_figure(accuracy_figure({"one": results}), tmp_path / "f.bmp")
    assert list(tmp_path.iterdir()) == []
