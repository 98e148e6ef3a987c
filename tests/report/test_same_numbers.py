"""What TensorBoard keeps, what the figure draws and what the page says is the same number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_runs import Page, make_run, on_grid, ten_images
from test_attack_report import RUN, attack_run
from test_tensorboard import events_of

from diffsmooth.report.figures import accuracy_figure
from diffsmooth.report.page import html_page
from diffsmooth.report.radii import curve_radii, usual_radii
from diffsmooth.report.tensorboard import curve_tags, write_attacks, write_run
from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results
from diffsmooth.stats.printed import rounded_down, rounded_up


def on_hundredths() -> Results:
    """300 images, three with each radius from 0.01 to 1.00, as tables of two decimals have them."""
    radius = np.repeat(np.arange(1, 101) / 100, 3)
    zero = np.zeros(300, dtype=int)
    return Results(np.arange(300), zero, zero, radius, np.ones(300), max_radius=1.0)


@pytest.mark.parametrize("results", [on_hundredths(), ten_images(), on_grid()])
def test_the_page_and_tensorboard_agree_at_each_radius(results: Results, tmp_path: Path) -> None:
    run = make_run(results, "run")
    write_run(tmp_path, run, "text")
    events, page = events_of(tmp_path), Page(html_page([run], usual_radii([run])))
    accuracy, low, high = (
        {event.step: event.value for event in events.Scalars(tag)} for tag in curve_tags()
    )
    (said,) = page.curve["texts"]
    compared = 0
    for label, text in zip(page.curve["radii"], said, strict=True):
        step = round(1000 * float(label))
        if step not in accuracy or float(label) * 1000 != pytest.approx(step):
            continue
        compared += 1
        share = round(accuracy[step] * len(results)) / len(results)
        assert accuracy[step] == pytest.approx(share, abs=1e-7)
        # float32 has seven digits; the ends lie outwards by less than one of them.
        ends = rounded_down(low[step] + 1e-6), rounded_up(max(0.0, high[step] - 1e-6))
        assert text == f"{rounded_down(share)} [{ends[0]}, {ends[1]}]"
    assert compared == {300: 101, 10: 2 if results.grid else 96}[len(results)]


def test_they_agree_on_what_attacks_left(tmp_path: Path) -> None:
    one = attack_run()
    write_attacks(tmp_path, one, "text")
    events, page = events_of(tmp_path), Page(html_page([RUN], np.array([0.5]), attacks=[one]))
    (tag,) = (tag for tag in events.Tags()["scalars"] if tag.endswith("abstained right"))
    said = dict(zip(page.curve["radii"], page.curve["texts"][1], strict=True))
    kept = {f"{event.step / 1000:.2f}": event.value for event in events.Scalars(tag)}
    assert {radius: said[radius] for radius in kept} == {
        radius: f"<= {rounded_up(value)}" for radius, value in kept.items()
    }
    assert (said["0.34"], said["0.35"]) == ("<= 1.000", "<= 0.500")


def test_the_figure_draws_the_numbers_of_the_page() -> None:
    run = make_run(on_hundredths(), "run")
    radii = np.array([0.0, 0.333, 0.57])
    page = Page(html_page([run], radii))
    (axes,) = accuracy_figure({"run": run.results}, radii=radii).axes
    x, y = axes.lines[0].get_data()
    (heights,) = page.curve["heights"]
    np.testing.assert_allclose(100 - 100 * np.asarray(y), heights, atol=1e-3)
    np.testing.assert_allclose(100 * np.asarray(x) / 1.02, page.curve["places"], atol=1e-3)
    assert {0.333, 0.57} < set(np.asarray(x).tolist())


def test_even_steps_are_the_decimals_that_they_are_called() -> None:
    """57 * 0.01 is 0.5700000000000001, where an image of radius 0.57 is not certified."""
    points = curve_radii([on_hundredths()]).tolist()
    assert points == [i / 100 for i in range(101)]
    far = replace(on_hundredths(), max_radius=3.7)
    assert curve_radii([far], [0.33]).tolist()[5:9] == [0.25, 0.3, 0.33, 0.35]


def test_numbers_have_as_many_decimals_as_are_asked_for() -> None:
    run: Run = make_run(ten_images(), "run")
    page = Page(html_page([run], np.array([0.25]), decimals=5))
    assert page.rows("results")[0][1] == "0.50000[0.18708, 0.81292]"
    assert page.curve["texts"][0][page.curve["radii"].index("0.25")] == (
        "0.50000 [0.18708, 0.81292]"
    )
