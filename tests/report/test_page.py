import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from page_runs import (
    Page,
    bar_counts,
    failed,
    foreign,
    label_aware,
    make_run,
    on_grid,
    pictures,
    predictions,
    readings,
    ten_images,
)
from PIL import Image

from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST
from diffsmooth.report.page import html_page
from diffsmooth.report.page.axis import Axis, fitting_axis
from diffsmooth.report.page.curve import accuracy_curve
from diffsmooth.report.page.text import listed, short_number, short_radius
from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results

RADII = np.array([0.0, 0.25, 1.0])
SAMPLE = {"dataset": "fashion_mnist_sample", "split": "test", "sigma": 0.5}
KINDS: dict[str, Callable[[], Results]] = {
    "fixed": ten_images,
    "foreign": foreign,
    "grid": on_grid,
    "predictions": predictions,
    "label-aware": label_aware,
    "failed": failed,
}


def page_of(*runs: Run) -> Page:
    return Page(html_page(runs, RADII))


def test_the_table_by_hand() -> None:
    page = page_of(make_run(ten_images()))
    # Of ten images seven are right, five at 0.25; exact intervals as published tables have them.
    assert page.rows("results") == [
        [
            "a",
            "0.700[0.347, 0.934]",
            "0.500[0.187, 0.813]",
            "n/a",
            "0.280[0.130, 0.430]",
            "0.100",
            "10",
        ]
    ]


def test_the_table_of_each_kind_of_run() -> None:
    rows = page_of(*(make_run(kind(), name) for name, kind in KINDS.items())).rows("results")
    cells = {row[0]: [cell.split("[")[0] for cell in row[1:]] for row in rows}
    assert cells == {
        "fixed": ["0.700", "0.500", "n/a", "0.280", "0.100", "10"],
        "foreign": ["0.700", "0.500", "0.000", "0.280", "0.100", "10"],
        "grid": ["n/a", "n/a", "n/a", "n/a", "0.100", "10"],  # 1.0 is beyond the largest possible
        "predictions": ["0.700", "n/a", "n/a", "n/a", "0.100", "10"],
        "label-aware": ["0.700", "0.500", "n/a", "0.280", "n/a", "10"],
        "failed": ["0.700", "0.500", "n/a", "0.280", "0.000", "10"],
    }


def test_the_average_of_a_grid_is_a_lower_bound() -> None:
    results = replace(on_grid(), radius=np.full(10, 0.12345))
    page = page_of(make_run(results, "a"), make_run(results, "b"))
    assert [row[4] for row in page.rows("results")] == [">= 0.086"] * 2  # 0.0864 rounded down


def test_the_readings_of_the_curve() -> None:
    short = replace(ten_images(), max_radius=0.72)
    page = page_of(make_run(ten_images()), make_run(on_grid(), "g"), make_run(short, "s"))
    assert readings(page, "0.25") == ["0.500 [0.187, 0.813]", "n/a", "0.500 [0.187, 0.813]"]
    assert readings(page, "0.20")[1] == "0.600 [0.262, 0.879]"
    assert readings(page, "0.625")[1] == "0.100 [0.002, 0.446]"
    assert readings(page, "0.80") == ["0.000 [0.000, 0.309]", "n/a", "n/a"]
    i = page.curve["radii"].index("0.25")
    assert [heights[i] for heights in page.curve["heights"]] == [50.0, None, 50.0]
    assert page.curve["places"][i] == pytest.approx(100 * 0.25 / (1.0 * 1.02), abs=1e-3)
    assert len(page.curve["radii"]) < 300


def test_the_steps_of_the_curve_never_overstate() -> None:
    """Between two radii the line is at the accuracy of the larger one."""
    results = replace(ten_images(), radius=np.full(10, 0.5), max_radius=1.0)
    (line,) = accuracy_curve([make_run(results)], RADII).lines
    points = re.findall(r"V([\d.]+)H([\d.]+)", line.path)
    x = Axis(0.0, 1.02).places(np.array([0.5]))[0]
    assert line.path.startswith("M0.000 30.000")
    assert all(float(y) == (30.0 if float(at) <= x else 100.0) for y, at in points)
    assert len(line.area) > len(line.path)
    assert line.dots == []


def test_a_grid_has_a_dot_at_each_radius_that_it_decided() -> None:
    (grid,) = accuracy_curve([make_run(on_grid())], RADII).lines
    assert [dot.y for dot in grid.dots] == pytest.approx([40.0, 90.0])  # 1.0 was out of reach
    (predicted,) = accuracy_curve([make_run(predictions())], RADII).lines
    assert [(dot.x, dot.y) for dot in predicted.dots] == [(0.0, pytest.approx(30.0))]


def test_the_finding_of_the_curve() -> None:
    better = replace(ten_images(), prediction=np.zeros(10, dtype=int))
    runs = [make_run(ten_images()), make_run(better, "b")]
    assert accuracy_curve(runs, RADII).finding == (
        "Certified accuracy: at radius 0.00 it is 1.000 (b) and 0.700 (a); "
        "at radius 0.25 it is 0.700 (b) and 0.500 (a)."
    )
    assert "0.00 it is 0.700; at" in accuracy_curve(runs[:1], RADII).finding
    lost = accuracy_curve([make_run(on_grid())], RADII).finding
    assert lost == "Certified accuracy: not measured at these radii."


def test_histograms_count_each_image_once() -> None:
    html = html_page([make_run(ten_images())], RADII)
    assert sum(bar_counts(html)) == 9 + 10 + 10  # radii of what is certified, votes, seconds
    assert bar_counts(html)[-10:] == [1] * 10
    assert html.count("1 of them wrong") == 2
    summaries = Page(html).find("p", class_="summary")
    assert summaries == [
        "median 0.50, quartiles 0.30 and 0.70",
        "1100 for all",
        "median 5.5, quartiles 3.25 and 7.75",
    ]
    counted = [text for text in Page(html).find("span", class_="note") if "images" in text]
    assert counted == ["9 of 10 images", "10 images", "10 images"]


def test_histograms_of_what_is_not_known() -> None:
    page = page_of(make_run(foreign()), make_run(predictions(), "p"))
    summaries = page.find("p", class_="summary")
    assert summaries[1] == "n/a: predictions have no radii"
    assert summaries[2] == "n/a: the file does not tell"
    assert summaries[4] == "n/a: the file does not tell"
    some = replace(ten_images(), seconds=np.array([np.nan] * 8 + [1.0, 3.0]))
    summary = page_of(make_run(some)).find("p", class_="summary")[2]
    assert summary == "median 2, quartiles 1.5 and 2.5"


def test_confusion_by_hand() -> None:
    page = page_of(make_run(failed()))
    assert page.rows("matrix") == [["0", "7", "2", "0", "1"], ["1", "0", "0", "0", "0"]]
    heads = [cell for cell in page.find("th", scope="col") if cell in ("abstained", "failed")]
    assert heads == ["abstained", "abstained", "failed"]  # the first is of the table
    assert "2 of 10 images are predicted wrongly, most often 0 as 1 (2)." in page.find("p")


def test_classes_have_the_names_of_the_dataset() -> None:
    page = page_of(make_run(ten_images(), identity=SAMPLE))
    assert [row[0] for row in page.rows("matrix")] == list(FASHION_MNIST.class_names)
    assert page.rows("matrix")[0][1:3] == ["7", "2"]
    other = replace(ten_images(), label=np.full(10, 11))  # not of this dataset after all
    assert [row[0] for row in page_of(make_run(other, identity=SAMPLE)).rows("matrix")] == [
        "0", "1", "11",
    ]  # fmt: skip


def test_confusion_of_many_classes_is_a_table_of_pairs() -> None:
    label = np.arange(100) % 50
    prediction = label.copy()
    prediction[[3, 53, 7]] = 9, 9, 8
    rest = {"seconds": np.ones(100), "radius": np.full(100, 0.3)}
    results = Results(index=np.arange(100), label=label, prediction=prediction, **rest)
    page = page_of(make_run(results))
    assert page.rows("pairs") == [["3", "9", "2", "1.000"], ["7", "8", "1", "0.500"]]
    assert page.rows("matrix") == []


def test_label_aware_runs_have_no_confusion() -> None:
    page = page_of(make_run(label_aware()))
    (reason,) = page.find("p", class_="refused")
    assert reason.startswith("Not measured: the plan was label-aware, and 2 of 10 images")
    assert page.rows("matrix") == []
    assert page.rows("results")[0][5] == "n/a"


def test_remarks_of_the_file_and_of_the_results() -> None:
    page = page_of(make_run(failed(), remarks=("line 7 is cut off",)), make_run(on_grid(), "g"))
    remarks = page.find("ul", class_="remarks")[1:]  # the first are of the comparison
    assert remarks[0] == (
        "line 7 is cut off1 image failed, which counts as not certified; see the journal"
    )
    assert remarks[1].startswith("decided at the radii of a grid only")


def test_manifests_mark_what_differs() -> None:
    page = page_of(
        make_run(ten_images(), "a", identity=SAMPLE, context={"host": "x"}),
        make_run(ten_images(), "b", identity=SAMPLE | {"sigma": 0.25}, context={"host": "x"}),
        make_run(foreign(), "c"),
    )
    assert page.rows("manifest") == [
        ["dataset", "fashion_mnist_sample", "fashion_mnist_sample"],
        ["split", "test", "test"],
        ["sigma differs", "0.5", "0.25"],
    ]
    notes = [text for text in page.find("span", class_="note") if "values" in text]
    assert notes == ["3 values; between the runs differ sigma", "1 values, the same in all runs"]
    assert "n/a: c (no manifest)." in page.find("p", class_="note")


def test_the_gallery_by_hand() -> None:
    shown = (pictures(0), pictures(3, purified=False, m=0), pictures(9))
    page = page_of(make_run(ten_images(), identity=SAMPLE, gallery=shown))
    cards = [have for _, have in page.tags if "card" in (have.get("class") or "").split()]
    assert [(card["data-outcome"], card["data-radius"]) for card in cards] == [
        ("abstained", "0.0"), ("correct", "0.3"), ("wrong", "0.9"),
    ]  # fmt: skip
    images = [have for tag, have in page.tags if tag == "img"]
    assert [image["alt"] for image in images if "image 3," in image["alt"]] == [
        "image 3, original", "image 3, noisy",
    ]  # fmt: skip
    assert len(images) == 5 + 2 + 5
    texts = page.find("li", class_="card")
    assert texts[0].startswith("image 0 T-shirt/top abstained original noisy purified")
    assert texts[2].startswith("image 9 T-shirt/top wrong: Trouser")
    assert texts[2].endswith("radius0.90p_lower0.9900votes1100statuscertified")
    first = (shown[0].original, shown[0].noisy, shown[0].purified)
    for image, pixels in zip(images[:3], first, strict=True):
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels[0])


def test_colour_pictures_keep_their_channels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    shown = replace(pictures(0), original=pixels)
    page = page_of(make_run(ten_images(), gallery=(shown,)))
    src = next(have["src"] for tag, have in page.tags if tag == "img")
    image = Image.open(io.BytesIO(base64.b64decode(src.split(",")[1])))
    np.testing.assert_array_equal(np.asarray(image), pixels.transpose(1, 2, 0))


def test_a_picture_without_a_result_is_refused() -> None:
    with pytest.raises(ValueError, match="a: image 10 of the gallery has no result"):
        page_of(make_run(ten_images(), gallery=(pictures(10),)))


def all_kinds(gallery: bool, manifest: bool) -> list[Run]:
    more = {"gallery": (pictures(1), pictures(8, False, 0))} if gallery else {}
    identity = {"identity": SAMPLE, "context": {"host": "x"}} if manifest else {}
    return [make_run(kind(), name, **more, **identity) for name, kind in KINDS.items()]


def check_whole(page: Page) -> None:
    """A page by the rules that every page obeys, whatever is known."""
    assert ("html", {"lang": "en"}) in page.tags
    ids = [have["id"] for _, have in page.tags if "id" in have]
    assert len(set(ids)) == len(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    for tag, have in page.tags:
        if tag == "img":
            assert have["alt"]
        if have.get("role") in ("img", "region"):
            assert have.get("aria-label") or have.get("aria-labelledby") in ids
        if have.get("aria-labelledby"):
            assert have["aria-labelledby"] in ids
        if tag == "label" and "for" in have:
            assert have["for"] in ids
        for reference in (have.get("href"), have.get("src")):
            assert reference is None or reference[1:] in ids or reference.startswith("data:image/")
    text = "".join(page.text[0])
    for wrong in ("NaN", "nan", "None", "inf "):
        assert wrong not in "".join(text.split("<script>")[0].split('"use strict"')[0])


@pytest.mark.parametrize("gallery", [False, True])
@pytest.mark.parametrize("manifest", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_whatever_is_known(kind: str, manifest: bool, gallery: bool) -> None:
    runs = [r for r in all_kinds(gallery, manifest) if kind in ("all", r.name)]
    page = page_of(*runs)
    check_whole(page)
    assert len(page.rows("results")) == len(runs)
    assert ("n/a: no pictures lie beside" in " ".join(page.find("p"))) is not gallery
    assert len(page.find("details")) == (2 if manifest else 0)


def test_nothing_is_loaded() -> None:
    html = html_page(all_kinds(True, True), RADII)
    assert "default-src 'none'" in html
    for reference in ("http:", "https:", "//cdn", "url(", "@import", "<link", "srcset"):
        assert reference not in html.replace("http-equiv", "")


def test_what_comes_from_files_is_escaped() -> None:
    evil = '</script><script>alert(2)</script><img src=x onerror="alert(3)">'
    name = "<script>alert(1)</script>"
    more = {"remarks": (evil,), "gallery": (pictures(1),)}
    runs = [
        make_run(ten_images(), name, identity=SAMPLE | {"arch": evil, evil: 1}, **more),
        make_run(ten_images(), f"{name}'\"&", context={"host": evil}),
    ]
    html = html_page(runs, RADII)
    page = Page(html)
    check_whole(page)
    assert [tag for tag, _ in page.tags].count("script") == 2  # the data and the page's own
    assert not any("onerror" in have for _, have in page.tags)
    assert page.curve["names"] == [name, f"{name}'\"&"]
    assert page.rows("results")[0][0] == name
    assert evil in "".join(page.text[0])
    assert "alert(" not in re.sub(r"&lt;.*?&gt;alert\(|\\u003ealert\(|&#34;alert\(", "", html)


def test_the_size_does_not_grow_with_the_images(rng: np.random.Generator) -> None:
    def run(images: int, name: str) -> Run:
        label = rng.integers(0, 10, images)
        prediction = np.where(rng.random(images) < 0.7, label, rng.integers(-1, 10, images))
        return make_run(
            Results(
                index=np.arange(images),
                label=label,
                prediction=prediction,
                radius=rng.random(images) * (prediction >= 0),
                seconds=rng.random(images),
                max_radius=1.0,
            ),
            name,
        )

    pages = [html_page([run(n, name) for name in "abc"], RADII) for n in (1000, 50_000)]
    assert len(pages[1]) < 1.1 * len(pages[0]) < 250_000
    assert pages[1].count("<") < 8000


@pytest.mark.parametrize(
    ("radius", "text"), [(0.25, "0.25"), (0.625, "0.625"), (1.2319, "1.2319"), (1.23168, "1.2316")]
)
def test_radii_are_never_rounded_up(radius: float, text: str) -> None:
    assert short_radius(radius) == text


def test_axes() -> None:
    assert [(t.place, t.text) for t in Axis(0.0, 2.0).ticks()][::2] == [
        (0.0, "0"), (50.0, "1"), (100.0, "2"),
    ]  # fmt: skip
    wide = fitting_axis(np.array([1.0, 100.0]), True)
    assert wide == Axis(1.0, 100.0, log=True)
    assert wide.places(np.array([10.0])) == 50.0
    assert [tick.text for tick in wide.ticks()] == ["1", "2", "5", "10", "20", "50", "100"]
    assert [tick.text for tick in Axis(1.0, 1e4, log=True).ticks()][::4] == ["1", "10000"]
    assert not fitting_axis(np.array([0.0, 100.0]), True).log
    assert not fitting_axis(np.array([1.0, 100.0]), False).log
    assert fitting_axis(np.zeros(0), True) == Axis(0.0, 1.0)


def test_words() -> None:
    assert [listed(list(words)) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert [short_number(value) for value in (0.012345, 5.5, 99.96, 1234.5)] == [
        "0.0124", "5.5", "100", "1235",
    ]  # fmt: skip
