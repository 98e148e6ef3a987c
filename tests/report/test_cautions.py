"""What a reviewer would ask of crafted tables, and of the studies of this repository."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naming import named
from pets import pets
from scipy.stats import beta, norm
from test_attack_report import RUN, attack_run

from diffsmooth.cli.report import main
from diffsmooth.report.cautions import caution_lines, cautions, few_classes
from diffsmooth.report.page import html_page
from diffsmooth.report.radii import usual_radii
from diffsmooth.runs.reading import Run, read_run
from diffsmooth.stats import Results
from diffsmooth.stats.results import NO_LABEL

RADII = np.array([0.0, 0.25, 0.5])
STUDIES = Path("docs/studies")


def many(images: int = 10_000, step: int = 1, radius: float = 0.3) -> Results:
    """Images of class 0, right with radii evenly up to that."""
    return Results(
        index=step * np.arange(images),
        label=np.zeros(images, dtype=int),
        prediction=np.zeros(images, dtype=int),
        radius=np.linspace(0.01, radius, images),
        seconds=np.ones(images),
    )


def lines_of(results: Results, radii: np.ndarray = RADII, **identity: object) -> list[str]:
    return caution_lines([replace(named("a", results), identity=identity)], radii)


def test_nobody_is_warned_of_a_whole_test_set() -> None:
    assert lines_of(many()) == []
    assert lines_of(many(), size=10_000) == []
    assert caution_lines([named("a", many()), named("b", many())], RADII) == []


def test_which_images_and_what_that_leaves_open() -> None:
    low, high = beta.ppf(0.025, 250, 251), beta.ppf(0.975, 251, 250)
    assert (f"{low:.4f}", f"{high:.4f}") == ("0.4553", "0.5447")
    (line,) = lines_of(many(500, step=20), size=10_000)
    assert line == (
        "a: 500 of 10,000 images (every 20th): of so many, an accuracy near 0.5 has the 95 % "
        "interval 0.455-0.545; certify more of them (--skip, --max), or compare runs image by "
        "image (--paired)"
    )
    (line,) = lines_of(many(500), size=10_000)
    assert line.startswith("a: 500 of 10,000 images (the first): of so many")
    (line,) = lines_of(many(10_000), size=50_000)  # enough, but which?
    assert line.startswith("a: 10,000 of 50,000 images (the first): of so many")
    (line,) = lines_of(many(500, step=21))
    assert line.startswith("a: 500 images (every 21st; of how many is not told): of so many")
    (line,) = lines_of(replace(many(3), index=np.array([0, 1, 5])), size=6)
    assert line.startswith("a: 3 of 6 images: of so many")
    (line,) = lines_of(many(12), size=12)
    assert line.startswith("a: all 12 images: of so many")
    assert line.endswith("; compare runs image by image (--paired)")


def test_each_thing_is_said_once() -> None:
    runs = [named(name, many(500, 20)) for name in "abc"]
    (line,) = caution_lines(runs, RADII)
    assert line.startswith("all runs: 500 images (every 20th")
    runs[1] = named("b", many())
    lines = caution_lines(runs, RADII)
    assert lines[0].startswith("a, c: 500 images (every 20th")
    assert lines[1] == (
        "the runs are not on the same images; certify the same ones (--skip, --max) before small "
        "differences are read"
    )


def test_radii_that_n_cuts_off() -> None:
    """Of 100 votes, all for one class give 0.5 * Phi^-1(0.001^(1/100)) = 0.7502."""
    largest = 0.5 * norm.ppf(0.001 ** (1 / 100))
    assert f"{largest:.3f}" == "0.750"
    lines = caution_lines([pets()], np.array([0.0, 0.25, 0.7]))
    assert lines[1] == (
        "pets: N = 100 votes give radius 0.750 at most, and a tenth of the images or more have it: "
        "more votes may raise ACR and accuracy at 0.70; certify with a larger --N (1,000 reaches "
        "1.231)"
    )
    assert 0.5 * norm.ppf(0.001 ** (1 / 1000)) > 1.231
    told = {"max_radius": 0.31, "sigma": 0.25, "alpha": 0.001, "plan": "fixed"}
    assert lines_of(replace(many(), **told)) == []  # 0.25 is well below
    (line,) = lines_of(replace(many(), **told), np.array([0.0, 0.3, 0.32]))
    assert line == (
        "a: the votes give radius 0.310 at most: more votes may raise accuracy at 0.30; certify "
        "with a larger --N"
    )
    same = replace(many(), radius=np.minimum(many().radius, 0.2))
    (line,) = lines_of(same)
    assert line == (
        "a: a tenth of the images or more have the largest radius, 0.200, which may be all that N "
        "gives: more votes may raise ACR; certify with a larger --N"
    )
    assert lines_of(replace(many(), radius=np.zeros(10_000), max_radius=0.0)) == []


def test_runs_of_other_votes_side_by_side() -> None:
    whole = replace(many(), sigma=0.5)
    some = [replace(named(name, whole), records=pets().records) for name in "ab"]
    assert [line for line in caution_lines(some, RADII) if "different" in line] == []
    foreign = named("c", whole)
    (line,) = [line for line in caution_lines([*some, foreign], RADII) if "different" in line]
    assert line.startswith("the runs may be of different N: a 100, b 100, c not known; N alone")
    certificate = replace(some[1].records[0].certificate, max_n=1000)
    more = (replace(some[1].records[0], certificate=certificate),)
    (line,) = [
        line
        for line in caution_lines([some[0], replace(some[1], records=more)], RADII)
        if "different" in line
    ]
    assert line.startswith("the runs are of different N: a 100, b 1,000; N alone")
    runs = [
        named("a", replace(whole, plan="fixed", alpha=0.001)),
        named("b", replace(whole, plan="group_sequential", alpha=0.01)),
        named("c", whole),
    ]
    assert caution_lines(runs, RADII) == [
        "the runs are of different plan: a fixed, b group_sequential; what stops early understates "
        "where it does not decide: compare at the radii of its grid, or certify again with one "
        "--plan",
        "the runs are of different alpha: a 0.001, b 0.01; --alpha analyses the votes of all at "
        "one",
    ]


def test_sequential_plans_that_decide_otherwise_are_told() -> None:
    grid = replace(many(7), plan="group_sequential", grid=(0.0, 0.5))
    whole = replace(many(7), plan="group_sequential")
    lines = caution_lines([named("a", grid), named("b", whole)], RADII)
    (line,) = (line for line in lines if "different plan" in line)
    assert "a group_sequential of some radii, b group_sequential" in line


def test_attacks_on_some_of_the_images() -> None:
    lines = caution_lines([RUN], RADII, [(attack_run(), RUN)])
    assert lines[-1] == (
        "a<b: the attacks were on 2 of 10 images; compare with the row 'certified' of its own "
        "table, not with that of a"
    )


def test_every_caution_says_what_to_do() -> None:
    runs = [
        pets(),
        replace(pets("other", size=100), results=replace(pets().results, alpha=0.01, plan="odd")),
        named("c", many(7)),
    ]
    found = cautions(runs, np.array([0.7]), [(attack_run(), RUN)])
    assert len(found) == 10
    for one in found:
        assert one.finding
        assert one.advice
    for line in caution_lines(runs, np.array([0.7])):
        assert line.isprintable()


def test_the_report_and_the_page_say_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.txt"
    rows = ["0\t3\t3\t0.5\t1\t1", "1\t3\t5\t0.25\t1\t1"]  # the second is not correct
    table.write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *rows, ""]))
    main([str(table), "--html", str(tmp_path / "t.html"), "--table", str(tmp_path / "t.md")])
    out = capsys.readouterr().out
    assert "- t: column correct is not predict = label on 1 lines, first on line 3: counted" in out
    assert "; quote no number that was counted from that column" in out
    assert "- t: 2 images (the first; of how many is not told)" in out
    page = (tmp_path / "t.html").read_text()
    for line in caution_lines([read_run(table)], RADII):
        assert line.replace("'", "&#39;") in page
    assert "quote no number that was counted" in page
    assert "2 images (the first" in (tmp_path / "t.md").read_text()


def study(*names: str) -> list[Run]:
    return [read_run(STUDIES / "fashion_mnist" / f"{name}.jsonl") for name in names]


def test_of_this_repositorys_studies_is_said_what_is_true_of_them() -> None:
    """500 images, every 20th, N = 1,000 (max 1.231), the usual radii end at 1.00."""
    runs = study("cohen", "denoised", "diffsmooth", "smoothadv")
    for run in runs:
        results = run.results
        assert np.sum(results.correct & (results.radius >= results.max_radius)) >= 50
    assert caution_lines(runs, usual_radii(runs)) == [
        "all runs: 500 images (every 20th; of how many is not told): of so many, an accuracy near "
        "0.5 has the 95 % interval 0.455-0.545; certify more of them (--skip, --max), or compare "
        "runs image by image (--paired)",
        "all runs: N = 1,000 votes give radius 1.231 at most, and a tenth of the images or more "
        "have it: more votes may raise ACR; certify with a larger --N (10,000 reaches 1.599)",
    ]
    others = [read_run(STUDIES / "precision" / f"{name}.txt") for name in ("float32", "bf16")]
    first, *more = caution_lines(others, usual_radii(others))
    assert first.startswith("all runs: 500 images (every 20th; of how many is not told): ")
    assert 0.25 * norm.ppf(0.001 ** (1 / 1000)) < 0.616  # of N = 1,000, which no table tells
    assert more == [
        "all runs: a tenth of the images or more have the largest radius, 0.615, which may be all "
        "that N gives: more votes may raise ACR; certify with a larger --N"
    ]


def test_a_page_without_cautions_has_no_heading_of_them() -> None:
    assert 'id="cautions"' not in html_page([named("a", many())], RADII)
    assert 'id="cautions"' in html_page([named("a", many(10))], RADII)


def test_images_of_few_classes_are_told() -> None:
    sorted_pets = ["cats", "dogs", "owls"]
    (_, line) = lines_of(many(12), size=50, class_names=sorted_pets)
    assert line == (
        "a: the images are all of one class, cats; take them from all of the data set (--skip)"
    )
    (one,) = lines_of(many(2), size=50, class_names=["cats", "dogs"])
    assert "class" not in one  # two of one class are no surprise
    hundreds = [str(label) for label in range(1000)]
    spread = replace(many(100), label=np.arange(100) * 10)  # as of ImageNet's every 500th
    assert not any("classes" in line for line in lines_of(spread, size=100, class_names=hundreds))
    first = replace(many(100), label=np.arange(100) // 5)
    assert any(
        "the images are of 20 of 1,000 classes" in line
        for line in lines_of(first, size=5000, class_names=hundreds)
    )
    assert few_classes(np.full(100, NO_LABEL), hundreds) == ""
