"""What classes, images and runs are called: by their files, where these tell it."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from page_runs import Page, make_run, ten_images
from pets import FILES, HOSTILE, pets

from diffsmooth.report.image_table import image_table
from diffsmooth.report.names import class_names, file_names, known_classes, short_names
from diffsmooth.report.page import html_page
from diffsmooth.report.writers import as_csv
from diffsmooth.runs.reading import Run

RADII = np.array([0.0, 0.25])


def table_of(*runs: Run) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(as_csv(image_table(runs))), keep_default_na=False)


def test_the_page_calls_cats_cats() -> None:
    page = Page(html_page([pets()], RADII))
    assert [row[0] for row in page.rows("matrix")] == ["cats", "dogs"]
    assert page.rows("matrix")[0][1:4] == ["1", "1", "0"]
    assert "1 of 4 images are predicted wrongly, most often cats as dogs (1)." in page.find("p")
    cards = page.find("li", class_="card")
    assert cards[1].startswith("image 1 cats cats/b.pngwrong: dogs original noisy radius")
    assert cards[3].startswith("image 3 dogs dogs/b c.pngabstained original noisy radius")
    alts = [have["alt"] for tag, have in page.tags if tag == "img"]
    assert alts[0] == "image 0 (cats/a.png), original"


def test_the_table_of_images_by_hand() -> None:
    run = pets()
    table = table_of(run)
    assert table["run"].tolist() == ["pets"] * 4
    assert table["file"].tolist() == list(FILES)
    assert table["label_name"].tolist() == ["cats", "cats", "dogs", "dogs"]
    assert table["predict"].tolist() == [0, 1, 1, -1]
    assert table["predict_name"].tolist() == ["cats", "dogs", "dogs", ""]
    assert table["true_class_votes_share"].tolist() == [0.95, 0.05, 1.0, 0.55]
    p_lower = [record.certificate.p_lower for record in run.records]
    assert table["p_lower"].tolist() == p_lower
    assert table["true_class_p_lower"].tolist() == [p_lower[0], 0.0, p_lower[2], p_lower[3]]
    assert table["radius"].tolist() == [record.certificate.radius for record in run.records]
    assert table["votes"].tolist() == [110] * 4


def test_what_is_not_told_is_not_guessed() -> None:
    run = make_run(ten_images())
    table = table_of(run, pets())
    assert table["file"].tolist()[:10] == [""] * 10
    assert table["label_name"].tolist()[:10] == [""] * 10
    assert table["true_class_p_lower"].tolist()[:10] == [""] * 10
    assert table["idx"].tolist()[:10] == [*range(10)]
    old = pets()
    old = replace(old, records=tuple(replace(one, origin=None) for one in old.records))
    assert file_names(old.records) == {}
    page = Page(html_page([old], RADII))
    assert page.find("li", class_="card")[0].startswith("image 0 cats correct: cats")
    unnamed = replace(pets(files=("", "", "", "")), identity={"dataset": "pets"})
    assert file_names(unnamed.records) == {}
    assert class_names(unnamed) == {0: "0", 1: "1"}
    other = replace(pets(), identity={"class_names": ["cats"]})  # and label 1 has no name
    assert class_names(other) == {0: "0", 1: "1"}
    broken = replace(pets(), identity={"class_names": ["cats", 1]})
    assert known_classes(broken) == ()


def test_hostile_names_are_harmless() -> None:
    run = pets(classes=(HOSTILE, "dogs"), files=(HOSTILE, "=b", "c", "d"))
    html = html_page([run], RADII)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert r"\x1b[2J</script><script>alert(1)</script>\u202e=1+1" in page.find("p", class_="file")
    assert page.rows("matrix")[0][0].startswith(r"\x1b[2J</script>")
    csv = as_csv(image_table([run]))
    assert "\x1b" not in csv
    assert table_of(run)["file"].tolist()[:2] == [
        r"\x1b[2J</script><script>alert(1)</script>\u202e=1+1", "'=b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["logs/a/sigma_0.50"], ["sigma_0.50"]),
        (["x/test/s", "y/test/s"], ["x", "y"]),
        (["x/a/s", "x/a/t"], ["s", "t"]),
        (["x/a/s", "y/a/t", "x/a/t"], ["x/a/s", "y/a/t", "x/a/t"]),
        (["a/b", "b"], ["a/b", "b"]),
        (["one", "two"], ["one", "two"]),
        (["a/x/b", "a/b"], ["x/b", "b"]),
    ],
)
def test_paths_are_shortened_to_what_tells_them_apart(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short
    assert len(set(short)) == len(short)


def test_lines_of_long_names_end_between_words() -> None:
    run = replace(pets(), name="a_b/c<d")
    html = html_page([run], RADII)
    assert "a_<wbr>b/<wbr>c&lt;d" in html
