"""The page by axe-core, which a package of the dev extra brings: no violation is left."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from page_runs import foreign, label_aware, make_run, on_grid, pictures, predictions, ten_images
from pets import pets
from test_attack_report import RUN, attack_run

from diffsmooth.report.page import html_page
from diffsmooth.report.tables import envelope_table
from diffsmooth.report.true_class import true_class_table
from diffsmooth.report.writers import Section
from diffsmooth.stats import Results

PACKAGE = "axe_playwright_python"
RADII = np.array([0.0, 0.25, 0.625, 1.0])
# Folded parts are unfolded, and every run of a chooser is shown.
OPEN = """document.querySelectorAll('details').forEach(e => { e.open = true; });
document.querySelectorAll('.panel-of').forEach(e => { e.hidden = false; });"""
CHECK = """(async () => JSON.stringify((await axe.run()).violations.flatMap(one =>
  one.nodes.map(node => `${one.id}: ${node.target} ${node.failureSummary}`))))()"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"there is no axe-core here: the package {PACKAGE} of the dev extra brings it")
    (script,) = Path(found.submodule_search_locations[0]).glob("**/axe.min.js")
    return script.read_text()


def every_shade() -> Results:
    """A confusion whose cells have all shares of a row, 0/8 .. 8/8, right and abstained.

    Their counts have two digits: axe-core does not judge the contrast of one.
    """
    label, number = np.divmod(np.arange(720), 80)
    prediction = np.where(number < 10 * label, label, -1)
    return Results(np.arange(720), label, prediction, 0.1 * (prediction >= 0), np.ones(720))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with everything, one of a single run, and one of a table that tells little."""
    folder = tmp_path_factory.mktemp("page")
    shown = tuple(pictures(index) for index in (0, 3, 9))
    identity = {"identity": {"dataset": "fashion_mnist_sample"}, "context": {"host": "x"}}
    runs = [
        RUN,
        pets("pets/of_two_kinds/with_quite_a_long_name_sigma_0.50"),
        make_run(ten_images(), "fixed", gallery=shown, **identity),
        make_run(on_grid(), "grid"),
        make_run(predictions(), "predict", gallery=shown[:1]),
        make_run(label_aware(), "aware"),
        make_run(foreign(), "foreign"),
        make_run(every_shade(), "shades"),
    ]
    sections = [
        *true_class_table(runs),
        Section("Upper envelope", envelope_table(runs, RADII)),
    ]
    pages = {
        "everything": html_page(runs, RADII, sections, attacks=[attack_run()]),
        "one run": html_page([pets()], RADII),
        "a table": html_page([make_run(foreign())], RADII),
    }
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html)
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("kind", ["everything", "one run", "a table"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_no_violation(
    axe: str, browser: Chromium, files: dict[str, Path], width: int, theme: str, kind: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.call("Emulation.setEmulatedMedia", features=[feature])
    browser.open(files[kind], width)
    browser.js(OPEN)
    browser.js(axe)
    assert json.loads(browser.js(CHECK)) == []
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.problems == []


def test_axe_finds_what_is_wrong(axe: str, browser: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text("<html><body><img src='data:,'><p style='color:#eee'>pale</p></body></html>")
    browser.open(page)
    browser.js(axe)
    found = {one.split(":")[0] for one in json.loads(browser.js(CHECK))}
    assert {"image-alt", "color-contrast", "html-has-lang"} <= found
