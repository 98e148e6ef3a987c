"""Attacks in reports, on small runs made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_runs import Page, make_run, ten_images

from diffsmooth.report.attacks import (
    attack_sections,
    empirical_table,
    flip_remarks,
    run_of,
    try_name,
)
from diffsmooth.report.figures import accuracy_figure
from diffsmooth.report.page import html_page
from diffsmooth.runs.attacked import (
    PIXELS,
    AttackPicture,
    AttackRun,
    read_pictures,
    write_pictures,
)
from diffsmooth.stats import FixedSampleSize, ImageRecord, MajorityVote
from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.empirical import Empirical
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin

ORIGIN = Origin("0123456789abcdef", "numpy", "", (1, 4, 4))


def certified(index: int, radius: float) -> ImageRecord:
    nothing = FixedSampleSize().nothing(0.5)
    certificate = replace(nothing, prediction=0, radius=radius) if radius else nothing
    return ImageRecord(index, 0, 0.0, certificate, "", ORIGIN)


RUN = make_run(
    ten_images(),
    records=(certified(0, 0.0), certified(1, 0.3), certified(2, 0.2)),
)


def record(index: int, attack: Attack, prediction: int) -> ImageRecord:
    run = MajorityVote(100).start(0.5, 10)
    run.update(np.bincount([prediction] * 100, minlength=10))
    return ImageRecord(index, 0, 0.0, run.certificate, "", ORIGIN, attack)


def attack_run() -> AttackRun:
    """Image 1 breaks at 0.35, image 2 at none; both are certified as class 0."""
    one = Attack(image=1, certified=0, radius=0.3)
    two = Attack(image=2, certified=0, radius=0.2)
    tried = [
        (one, 0),
        (replace(one, method="pgd", factor=2.0, budget=0.6, norm=0.55), 3),
        (replace(one, method="ddn", factor=2.0, budget=0.6, norm=0.35), 3),
        (two, 0),
        (replace(two, method="pgd", budget=0.1, norm=0.1), 0),
    ]
    records = tuple(record(i, *one) for i, one in enumerate(tried))
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    picture = AttackPicture(2, 3.5, pixels, pixels + 1, pixels + 2)
    identity = {"attacked": "0123456789abcdef"}
    return AttackRun("a<b", Path("attack.jsonl"), records, identity, (picture,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"radius": 0.31}, r"class 0 within 0\.31, label 0; .* has class 0 within 0\.3, label 0"),
        ({"certified": 3}, "class 3 within"),
        ({"image": 7}, "is on no image of"),
    ],
)
def test_tries_on_certificates_that_the_run_has_not_are_refused(
    change: dict[str, object], said: str
) -> None:
    """A journal of attacks is believed in nothing that the run's says, too."""
    one = attack_run()
    first = replace(one.records[0], attack=replace(one.records[0].attack, **change))  # type: ignore[type-var]
    with pytest.raises(UserError, match=said):
        run_of(replace(one, records=(first, *one.records[1:])), [RUN])
    assert run_of(one, [RUN]) is RUN


def test_the_tables_by_hand() -> None:
    accuracy, tries = attack_sections(attack_run(), RUN, np.array([0.0, 0.25, 0.5]))
    assert list(accuracy.text.columns) == [
        "0.00",
        "0.10",
        "0.25",
        "0.50",
    ]  # and its own budget; 0.35 is within
    assert accuracy.text.loc["certified"].tolist() == ["1.000", "1.000", "0.500", "0.000"]
    left = accuracy.text.loc["empirical (abstained: right)"].tolist()
    assert left == ["1.000", "1.000", "1.000", "0.500"]
    assert accuracy.text.loc["gap"].tolist() == ["0.000", "0.000", "0.500", "0.500"]
    assert tries.text.loc["as it is"].tolist() == ["2", "2", "0", "0", "0"]
    assert tries.text.loc["pgd 2 x radius"].tolist() == ["1", "0", "0", "1", "0"]
    assert tries.text.loc["pgd l2 0.1"].tolist() == ["1", "1", "0", "0", "0"]
    assert tries.text.loc["ddn up to 2 x radius"].tolist() == ["1", "0", "0", "1", "0"]


def test_the_gap_is_of_whole_images() -> None:
    """0.88 - 0.72 is 0.16000000000000003 in floats, and was rounded up to 0.161."""
    wrong_from, radius = np.full(25, 0.0), np.full(25, 0.1)
    wrong_from[:22], radius[:18] = np.inf, 0.9
    zero = np.zeros(25, dtype=np.int64)
    found = Empirical(zero, zero, zero, radius, wrong_from, wrong_from, wrong_from, 0)
    measured = np.array([True, False])
    table = empirical_table(found, np.array([0.5, 3.0]), measured).text
    assert table.loc["gap"].tolist() == ["0.160", "n/a"]
    assert table.loc["certified"].tolist() == ["0.720", "n/a"]


def test_the_remarks_by_hand() -> None:
    one = attack_run()
    inside, flips = flip_remarks(one.found, one.records)
    assert inside.startswith("3 tries within certificates: the class held in 3")
    assert "1 of 2 certified images: median 0.350, 1.17 times the certified radius" in flips


def test_a_page_with_attacks_shows_them() -> None:
    page = html_page([RUN], np.array([0.0, 0.5]), attacks=[attack_run()])
    assert page.count('<li class="attacked">') == 1
    assert "a&lt;b" in page
    assert "a<b" not in page
    curve = Page(page).curve
    assert curve["names"] == ["a", "a<b: left by attacks on 2 images"]
    # Image 1 breaks at 0.35, image 2 at none.
    at = {radius: text for radius, text in zip(curve["radii"], curve["texts"][1], strict=True)}
    assert (at["0.34"], at["0.35"], at["0.95"]) == ("<= 1.000", "<= 0.500", "<= 0.500")
    heights = dict(zip(curve["radii"], curve["heights"][1], strict=True))
    assert (heights["0.34"], heights["0.35"]) == (0.0, 50.0)
    assert 'id="attacks"' not in html_page([RUN], np.array([0.0, 0.5]))


def test_a_figure_has_a_line_for_what_attacks_left() -> None:
    found = attack_run().found
    (axes,) = accuracy_figure({"run": RUN.results}, attacks={"a": found}).axes
    left = axes.lines[-1]
    x, y = (np.asarray(values, dtype=float) for values in left.get_data())
    np.testing.assert_array_equal(y, found.accuracy(x, True))


def test_attacks_on_another_run_are_refused() -> None:
    other = replace(attack_run(), identity={"attacked": "f" * 16})
    assert run_of(attack_run(), [RUN]) is RUN
    for refuse in (
        lambda: run_of(other, [RUN]),
        lambda: html_page([RUN], np.array([0.0]), attacks=[other]),
    ):
        with pytest.raises(UserError, match="attacks on another run"):
            refuse()


def test_pictures_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.images.npz"
    write_pictures(path, attack_run().pictures)
    (picture,) = read_pictures(path)
    (wanted,) = attack_run().pictures
    assert (picture.item, picture.scale) == (2, 3.5)
    np.testing.assert_array_equal(picture.perturbation, wanted.perturbation)
    np.savez(path, **dict.fromkeys(("item", "scale", *PIXELS), np.array([0.5])))
    with pytest.raises(UserError, match="not the pictures of attacks"):
        read_pictures(path)


def test_names_of_tries() -> None:
    assert try_name(Attack(image=0)) == "as it is"
    assert try_name(Attack(image=0, method="ddn", budget=1.5)) == "ddn up to l2 1.5"
