"""The page in a browser: drawn, read, sorted and filtered, by pointer and by keyboard."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from page_runs import foreign, make_run, on_grid, pictures, predictions, ten_images

from diffsmooth.report.page import html_page

READINGS = "[...document.querySelectorAll('.reading')].map(e => e.textContent)"
ORDER = "[...document.querySelectorAll('#results tbody th')].map(e => e.textContent.trim())"
SHOWN = (
    "[...document.querySelectorAll('[data-panel=images]:not([hidden]) .card')]"
    ".filter(e => e.offsetHeight).map(e => e.querySelector('.index').textContent.slice(6))"
)
SAID = "document.getElementById('radius').getAttribute('aria-valuetext')"
# Every visible text whose contrast with what lies behind it is below WCAG's AA.
LOW_CONTRAST = """(() => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const v = c[i] / 255;
    return sum + weight * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter((e) => e.offsetHeight
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())).map((e) => {
    const [a, b] = [luminance(rgba(getComputedStyle(e).color)), luminance(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return [ratio, e.className || e.tagName, e.textContent.trim().slice(0, 30)];
  }).filter(([ratio]) => ratio < 4.5).map((low) => low.join(' '));
})()"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four runs, two of them with pictures."""
    shown = tuple(pictures(index) for index in (0, 3, 6, 9))
    identity = {"dataset": "fashion_mnist_sample"}
    runs = [
        make_run(ten_images(), "fixed", identity=identity, gallery=shown),
        make_run(on_grid(), "</script><script>problem()</script>", identity={"sigma": 1}),
        make_run(predictions(), "predict", gallery=shown[:1]),
        make_run(foreign(), "a foreign table with quite a long name"),
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(html_page(runs, np.array([0.0, 0.25, 0.625, 1.0])))
    return path


@pytest.fixture
def page(browser: Chromium, file: Path) -> Iterator[Chromium]:
    browser.open(file)
    yield browser
    assert browser.problems == []


@pytest.mark.parametrize("width", [400, 1600])
def test_the_curve_is_drawn_and_nothing_overflows(page: Chromium, file: Path, width: int) -> None:
    page.open(file, width)
    assert page.js("document.documentElement.scrollWidth") <= width
    box = page.js(
        "(() => { const b = document.querySelector('#plot .run-0 .line').getBoundingClientRect();"
        "return [b.width, b.height]; })()"
    )
    assert box[0] > 0.5 * page.js("document.getElementById('plot').clientWidth")
    assert box[1] > 50
    assert page.js("document.querySelectorAll('#plot .run-1 .dot').length") == 2


def test_the_pointer_reads_all_runs(page: Chromium) -> None:
    page.point("#plot", x=0.25 / 1.02)
    assert page.js("document.getElementById('at').textContent") == "0.25"
    readings = page.js(READINGS)
    assert readings == ["0.500 [0.187, 0.813]", "n/a", "n/a", "0.500 [0.187, 0.813]"]
    assert page.js(SAID).startswith("radius 0.25: fixed 0.500 [0.187, 0.813], ")
    hidden = page.js("[...document.querySelectorAll('#reader span')].map(e => e.hidden)")
    assert hidden == [False, True, True, False]


def test_the_keyboard_reads_all_runs(page: Chromium) -> None:
    page.js("document.querySelector('nav li:last-child a').focus()")
    page.press("Tab")
    assert page.js("document.activeElement.id") == "radius"
    outline = "getComputedStyle(document.getElementById('plot')).outlineStyle"
    assert page.js(outline) == "solid"
    page.press("Home")
    assert page.js("document.getElementById('at').textContent") == "0.00"
    assert page.js(READINGS)[2] == "0.700 [0.347, 0.934]"  # predictions are at radius 0
    page.press("ArrowRight")
    assert page.js("document.getElementById('at').textContent") == "0.01"
    assert page.js(READINGS)[2] == "n/a"


def test_the_legend_hides_runs(page: Chromium) -> None:
    shown = "document.querySelector('#plot g.run-0').getBoundingClientRect().height > 0"
    assert page.js(shown)
    page.point(".legend li:nth-child(1) button", click=True)
    assert page.js("document.querySelector('.legend button').ariaPressed") == "false"
    assert not page.js(shown)
    assert "fixed" not in page.js(SAID)
    page.press("Enter")
    assert page.js(shown)


def test_the_table_is_sorted_by_pointer_and_keyboard(page: Chromium) -> None:
    before = page.js(ORDER)
    assert before[0] == "fixed"
    page.point("#results thead th:nth-child(4) button", click=True)  # radius 0.625
    order = page.js(ORDER)
    assert order[-1] == "predict"  # n/a is last, in both directions
    sort = "[...document.querySelectorAll('#results thead th')].map(e => e.ariaSort)"
    assert page.js(sort) == ["none"] * 3 + ["descending"] + ["none"] * 4
    page.press("Enter")
    assert page.js(sort)[3] == "ascending"
    assert page.js(ORDER)[-1] == "predict"
    page.js("document.querySelector('#results thead th button').focus()")
    page.press(" ")
    assert page.js(ORDER) == sorted(before, key=str.lower)
    page.js("document.querySelector('#results thead th:nth-child(2) button').focus()")
    page.press(" ", times=2)
    values = page.js("[...document.querySelectorAll('#results tbody tr')]"
                     ".map(r => r.cells[1].dataset.key)")  # fmt: skip
    known = [float(value) for value in values if value]
    assert known == sorted(known)


def test_images_are_filtered(page: Chromium) -> None:
    assert page.js(SHOWN) == ["0", "3", "6", "9"]
    page.point("#filters input[value=wrong]", click=True)
    assert page.js(SHOWN) == ["0", "3", "6"]
    assert page.js("document.getElementById('shown').textContent") == "3 of 4 images"
    page.js("document.querySelector('#filters input[name=low]').focus()")
    page.call("Input.insertText", text="0.5")
    assert page.js(SHOWN) == ["6"]
    page.js("document.querySelector('#filters input[name=high]').focus()")
    page.call("Input.insertText", text="0.55")
    assert page.js(SHOWN) == []
    page.point("#filters button", click=True)
    deadline = time.monotonic() + 60
    while page.js(SHOWN) != ["0", "3", "6", "9"]:
        assert time.monotonic() < deadline
    page.js("document.querySelector('#filters input[value=correct]').focus()")
    page.press(" ")
    assert page.js(SHOWN) == ["0", "9"]


def test_one_run_is_shown_at_a_time(page: Chromium) -> None:
    choose = (
        "(() => {{ const s = document.getElementById('{0}-run'); s.value = '{1}';"
        "s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
    )
    page.js(choose.format("images", 2))
    assert page.js(SHOWN) == ["0"]
    shown = "[...document.querySelectorAll('[data-panel=confusion]')].map(e => e.offsetHeight > 0)"
    assert page.js(shown) == [True, False, False, False]
    page.js(choose.format("confusion", 3))
    assert page.js(shown) == [False, False, False, True]
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.js(shown) == [True] * 4  # on paper all are
    page.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(page: Chromium, file: Path, theme: str) -> None:
    other = {"light": "dark", "dark": "light"}[theme]
    scheme = "prefers-color-scheme"
    page.call("Emulation.setEmulatedMedia", features=[{"name": scheme, "value": other}])
    page.open(file)
    page.js("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert page.js(LOW_CONTRAST) == []
    page.point("#theme", click=True)
    dark = page.js("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    assert dark == (theme == "dark")
    assert page.js(LOW_CONTRAST) == []
    page.call("Emulation.setEmulatedMedia", features=[])


def test_the_script_of_a_name_does_not_run(page: Chromium) -> None:
    assert page.js("document.scripts.length") == 2
    assert page.js("document.querySelector('.legend').textContent").count("problem()") == 1


@pytest.mark.parametrize("width", [400, 1280])
def test_names_break_between_words_and_nowhere_else(
    browser: Chromium, tmp_path: Path, width: int
) -> None:
    names = ["cifar10/noise_0.25/diffsmooth/resnet110_consistency_sigma_0.50", "x" * 300]
    path = tmp_path / "page.html"
    path.write_text(html_page([make_run(ten_images(), name) for name in names], np.array([0.25])))
    browser.open(path, width)
    # The parts between possible ends of lines, each of which must stand on one line.
    parts = browser.js(
        "[...document.querySelectorAll('.name')].flatMap(e => [...e.childNodes])"
        ".filter(n => n.nodeType === 3 && n.parentElement.offsetHeight).map(n => {"
        "const r = document.createRange(); r.selectNodeContents(n);"
        "return [n.textContent, r.getClientRects().length]; })"
    )
    assert {"cifar10/", "diffsmooth/", "0.25/", "resnet110_", "x" * 20} <= {
        text for text, _ in parts
    }
    assert [part for part in parts if part[1] != 1] == []
    assert browser.js("document.documentElement.scrollWidth") <= width
