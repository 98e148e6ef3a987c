"""The columns beside the radii's: ours by their words, others by their functions' names."""

from pathlib import Path

import numpy as np
import pytest
from naming import named

from diffsmooth.cli.report import main
from diffsmooth.report.columns import ACR, COLUMNS, columns_of
from diffsmooth.report.page import html_page
from diffsmooth.report.tables import accuracy_table
from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results
from diffsmooth.stats.errors import UserError

RADII = np.array([0.5])


def largest(run: Run) -> float:
    return float(run.results.radius.max())


def images(run: Run) -> int:
    return len(run.results)


def kind(run: Run) -> str:
    return "a\x1bb"


def unknown(run: Run) -> float:
    return float("nan")


def nothing(run: Run) -> None:
    return None


def test_ours_are_what_there_always_was() -> None:
    assert list(COLUMNS) == ["acr", "abstained", "images"]
    assert [column.heading for column in columns_of([*COLUMNS])] == ["ACR", "abstained", "images"]


def test_columns_of_others_by_the_names_of_their_functions(results: Results) -> None:
    words = [f"test_columns:{f}" for f in ("largest", "kind", "unknown", "images")]
    columns = columns_of([*words, "acr"])
    runs = [named("a", results), named("b", results)]
    table = accuracy_table(runs, RADII, columns, 2)
    assert table.text.columns.tolist() == ["0.50", "largest", "kind", "unknown", "images", "ACR"]
    top = f"{np.floor(100 * results.radius.max()) / 100:.2f}"
    assert table.text.loc["a"].tolist()[1:] == [top, r"a\x1bb", "n/a", "10", "0.45"]
    assert table.best.loc["a"].tolist() == [True, False, False, False, False, True]
    page = html_page(runs, RADII, (), columns)
    assert f'data-key="{results.radius.max()}">' in page
    assert '<span class="sort">largest</span>' in page
    assert '<span class="sort">abstained</span>' not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["size"], "column must be acr or abstained or images or PACKAGE.MODULE:NAME, got 'size'"),
        (["nowhere_at_all:size"], "there is no module nowhere_at_all"),
        (["test_columns:size"], "test_columns has no size"),
        (["test_columns:RADII"], "column 'test_columns:RADII' is no function of a run"),
        (["acr", "acr"], "columns must differ, got ACR twice"),
        (["images", "test_columns:images"], "columns must differ, got images twice"),
        (["test_columns:nothing"], "gives None, no number and no text"),
    ],
)
def test_words_that_no_one_knows_raise(results: Results, words: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        accuracy_table([named("a", results)], RADII, columns=columns_of(words))
    assert message in str(raised.value)


def test_a_report_has_the_columns_that_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "a.txt"
    table.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.5\t1\t1.0\n")
    main([str(table), "--radii", "0.5", "--columns", "images", "test_columns:largest"])
    title, headings, row = capsys.readouterr().out.splitlines()[:3]
    assert title == "Certified accuracy by radius (l2, in [0, 1] pixel units)"
    assert headings.split() == ["0.50", "images", "largest"]
    assert row.split() == ["a", "1.000", "1", "0.500"]
    assert columns_of(["acr"]) == (ACR,)
