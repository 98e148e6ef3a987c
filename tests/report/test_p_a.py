"""The distribution of p_A in tables, figures and on the page, by a count of the journal's votes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from naming import named
from page_runs import Page, make_run, ten_images
from pets import VOTES, pets
from scipy.stats import beta

from diffsmooth.report.figures import accuracy_figure
from diffsmooth.report.page import html_page
from diffsmooth.report.page.axis import Axis
from diffsmooth.report.page.true_class import true_class_figure
from diffsmooth.report.true_class import LEVELS, true_class_curves, true_class_table
from diffsmooth.runs.reading import read_run
from diffsmooth.stats import Results

RADII = np.array([0.0, 0.25])
JOURNAL = Path("docs/studies/fashion_mnist/diffsmooth.jsonl")


def test_the_table_by_hand() -> None:
    bounds = [beta.ppf(0.001, votes, 101 - votes) for votes in (95, 55)]
    assert f"{bounds[0]:.3f} {bounds[1]:.3f}" == "0.845 0.392"
    (section,) = true_class_table([pets()])
    # A cat at 0.845, a dog at 0.933 (100 votes of 100), one that abstains; the fourth is wrong.
    assert section.text.loc["pets"].tolist() == ["0.500", "0.500", "0.250", "n/a", "n/a"]
    assert section.text.columns.tolist() == ["0.5", "0.75", "0.9", "0.99", "0.999"]
    runs = [pets(), named("table", ten_images())]
    assert true_class_table(runs)[0].text.loc["table"].tolist() == ["n/a"] * len(LEVELS)
    assert true_class_table(runs[1:]) == []
    early = replace(pets(), results=replace(pets().results, grid=(0.25,)))
    assert true_class_table([early])[0].text.loc["pets"].tolist()[0] == ">= 0.500"


def test_a_study_by_a_count_of_its_votes() -> None:
    lines = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
    lower, share = [], []
    for line in lines:
        votes, n = dict(map(tuple, line["estimation_counts"])), line["n"]
        selected = max(line["selection_counts"], key=lambda pair: pair[1])[0]
        mine = votes.get(line["label"], 0)
        share.append(mine / n)
        bound = 0.001 ** (1 / n) if mine == n else beta.ppf(0.001, mine, n - mine + 1)
        lower.append(bound if selected == line["label"] else 0.0)
    run = read_run(JOURNAL)
    text = true_class_table([run])[0].text.loc[run.name].tolist()
    for level, cell in zip(LEVELS, text, strict=True):
        count = sum(value >= level for value in lower)
        assert cell == ("n/a" if level == 0.999 else f"{count / len(lines):.3f}")
    levels, *curves = true_class_curves(run.results)
    for values, curve in zip((lower, share), curves, strict=True):
        counted = [np.mean(np.array(values) >= level) for level in levels]
        # Levels are multiples of 0.005, which bounds are not, but shares of 1,000 votes are.
        np.testing.assert_array_equal(curve, counted)


def test_a_figure_draws_both_beside_the_accuracy() -> None:
    run = pets()
    accuracy, beside = accuracy_figure({"pets": run.results, "table": ten_images()}).axes
    assert len(accuracy.lines) == 2
    lower, share = beside.lines  # the table tells no votes
    assert lower.get_color() == accuracy.lines[0].get_color()
    x, y = lower.get_data()
    at = {0.3: 0.75, 0.5: 0.5, 0.9: 0.25, 0.95: 0.0}
    assert {level: y[np.flatnonzero(x == level)[0]] for level in at} == at
    counted = [np.mean(np.array([95, 5, 100, 55]) >= 100 * level - 1e-9) for level in x]
    np.testing.assert_array_equal(share.get_ydata(), counted)
    assert sorted(VOTES) == [5, 55, 95, 100]
    assert "lower bound" in beside.get_xlabel()
    assert len(accuracy_figure({"table": ten_images()}).axes) == 1


def test_what_was_skipped_has_no_share_of_the_votes() -> None:
    results = replace(pets().results, status=np.array(["skipped"] + ["certified"] * 3))
    _, lower, share = true_class_curves(results)
    assert lower[100] == 0.5
    assert np.isnan(share).all()
    (line,) = true_class_figure([replace(pets(), results=results)]).lines
    assert line.share == ""


def test_the_page_draws_and_says_it() -> None:
    runs = [pets(), make_run(ten_images(), "b")]
    figure = true_class_figure(runs)
    assert (
        figure.finding == "Share of images with a lower bound of p_A of at least 0.5: 0.500 (pets)."
    )
    assert figure.missing == ["b"]
    (line,) = figure.lines
    drawn = drawn_steps(line.lower)
    assert [drawn(level) for level in (0.2, 0.45, 0.8, 0.93, 0.99)] == [75.0, 50.0, 50.0, 25.0, 0.0]
    page = Page(html_page(runs, RADII))
    assert figure.finding in " ".join(page.find("p", class_="note"))
    assert any(have.get("aria-label") == figure.finding for _, have in page.tags)
    assert "p_A, n/a: no journal tells the votes" in html_page(runs[1:], RADII)


def drawn_steps(path: str):  # type: ignore[no-untyped-def]
    """The height in percent that a path of steps has at a level."""
    ends = [(float(x), 100 - float(y)) for y, x in re.findall(r"V([\d.]+)H([\d.]+)", path)]

    def height(level: float) -> float:
        place = Axis(0.0, 1.0).places(np.array([level]))[0]
        return next(y for x, y in ends if x >= place)

    return height


def test_the_size_of_the_page_does_not_grow_with_the_votes() -> None:
    rng = np.random.default_rng(0)

    def figure_of(images: int) -> int:
        told = replace(
            pets().results.true_class, lower=rng.random(images), share=rng.random(images)
        )
        results: Results = replace(pets().results, true_class=told)
        return sum(map(len, true_class_figure([replace(pets(), results=results)]).lines[0][1:]))

    assert figure_of(50_000) < 1.2 * figure_of(1000) < 10_000
