from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffsmooth.report import read_results
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.tables import (
    common_radii,
    comparison_remarks,
    comparison_table,
    default_radii,
    summary_text,
)
from diffsmooth.report.tensorboard import ImageTriple, write_run
from diffsmooth.stats import FixedSampleSize, ImageRecord, MajorityVote, Results
from diffsmooth.stats.results import CERTIFY_COLUMNS, to_tsv

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


@pytest.fixture
def results() -> Results:
    """Ten images, nine right at 0.1, 0.2 .. 0.9, one abstained; 0.95 was the largest possible."""
    return Results(
        index=np.arange(10),
        label=np.zeros(10, dtype=int),
        prediction=np.array([-1] + [0] * 9),
        radius=np.arange(10) / 10,
        seconds=np.ones(10),
        max_radius=0.95,
    )


@pytest.fixture
def on_grid(results: Results) -> Results:
    """The same, by a plan that decided 0.2, 0.625 and 1.0."""
    return replace(
        results,
        plan="group_sequential",
        grid=(0.2, 0.625, 1.0),
        votes=np.full(10, 300),
        status=np.array(["abstained"] + ["certified"] * 9),
    )


def test_a_table_is_read_by_ascending_index(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text(HEADER + "7\t1\t1\t0.5\t1\t0:00:02.500000\n3\t2\t-1\t0.0\t0\t1.5\n")
    results = read_results(path)
    assert results.index.tolist() == [3, 7]
    assert results.prediction.tolist() == [-1, 1]
    assert results.radius.tolist() == [0.0, 0.5]
    assert results.seconds.tolist() == [1.5, 2.5]
    assert results.max_radius is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a table"),
        ("idx\tlabel\n1\t2\n", "column 'predict' is missing"),
        (HEADER + "1\t2\t3\tx\t0\t1\n", "line 2: radius is not a number"),
        (HEADER + "1\t2\t3\t0.1\t0\t1\n1\t2\tnan\t0.1\t0\t1\n", "line 3: predict is not a number"),
    ],
)
def test_broken_tables_are_named_by_file_and_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "r.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"r\.txt.*{message}"):
        read_results(path)


def test_broken_journals_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"r\.jsonl, line 1"):
        read_results(path)
    with pytest.raises(ValueError, match="no such file"):
        read_results(tmp_path / "missing.jsonl")


def test_a_table_knows_the_plan_by_the_journal_beside_it(tmp_path: Path) -> None:
    plan = FixedSampleSize(n0=1, n=100)
    run = plan.start(0.5, 2)
    run.update(np.array([1, 0]))
    run.update(np.array([99, 1]))
    records = [ImageRecord(3, 0, 1.0, run.certificate), ImageRecord(5, 1, 1.0, plan.nothing(0.5))]
    table, journal = tmp_path / "r.txt", tmp_path / "r.jsonl"
    table.write_text(to_tsv(records, CERTIFY_COLUMNS))
    assert read_results(table).plan is None
    journal.write_text("".join(record.to_json() + "\n" for record in records))
    for path in (table, journal):
        assert read_results(path).plan == "fixed"
        assert read_results(path).count("failed") == 1
    table.write_text(to_tsv(records[:1], CERTIFY_COLUMNS))
    with pytest.raises(ValueError, match=r"r\.txt: is not of the same run as .*r\.jsonl"):
        read_results(table)


def test_journals_that_are_no_certification(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    records = [ImageRecord(i, 0, 1.0, FixedSampleSize(n=i).nothing(0.5)) for i in (50, 60)]
    path.write_text("".join(record.to_json() + "\n" for record in records))
    with pytest.raises(ValueError, match=r"r\.jsonl: records of different plans"):
        read_results(path)
    path.write_text(ImageRecord(3, 0, 1.0, MajorityVote().nothing(0.5)).to_json() + "\n")
    with pytest.raises(ValueError, match="certifies nothing"):
        read_results(path)


def test_the_closing_table_by_hand(results: Results) -> None:
    assert default_radii(results).tolist() == [0.0, 0.25, 0.5, 0.75]
    lines = summary_text(results).splitlines()
    assert lines[1].split() == ["0.00", "0.900", "0.555", "..", "0.997"]
    assert lines[2].split()[:2] == ["0.25", "0.700"]
    assert lines[4].split()[:2] == ["0.75", "0.200"]
    assert lines[5] == (
        "average certified radius 0.450 (largest possible 0.950), abstained 0.100, 10 images"
    )


def test_radii_that_no_votes_can_reach_are_not_zero(results: Results) -> None:
    table = comparison_table({"mine": results}, [0.5, 1.0])
    assert table.loc["mine", "0.50"] == "0.500 [0.187, 0.813]"
    assert table.loc["mine", "1.00"] == "n/a"
    assert table.loc["mine", "ACR"] == "0.450"


def test_the_closing_table_of_a_grid_says_what_it_understates(on_grid: Results) -> None:
    lines = summary_text(on_grid).splitlines()
    assert lines[1].split()[:2] == ["0.20", "0.800"]
    assert lines[2].split()[:2] == ["0.625", "0.300"]
    assert lines[3].split() == ["1.00", "n/a"]  # beyond 0.95
    assert lines[4].startswith("average certified radius >= 0.450 (largest possible 0.950)")
    assert lines[5] == "plan group_sequential, 300 votes an image on average"
    assert lines[6].startswith("only these radii were decided")
    tolerant = summary_text(replace(on_grid, grid=(), tolerance=0.05)).splitlines()
    assert "within 5 % of the radius" in tolerant[-1]


def test_the_closing_table_says_what_was_not_certified(on_grid: Results) -> None:
    status = np.array(["failed"] + ["certified"] * 9)
    text = summary_text(replace(on_grid, status=status))
    assert "abstained 0.000" in text
    assert "failed 1 images" in text
    status[0] = "skipped"
    text = summary_text(replace(on_grid, status=status))
    assert "abstained n/a: label-aware" in text
    assert "skipped 1 images" in text


def test_a_grid_is_compared_at_its_radii_only(results: Results, on_grid: Results) -> None:
    runs = {"fixed": results, "grid": on_grid}
    radii = common_radii(runs)
    assert radii.tolist() == [0.0, 0.2, 0.25, 0.5, 0.625, 0.75, 1.0]
    table = comparison_table(runs, radii.tolist())
    assert table.loc["grid", "0.20"] == table.loc["fixed", "0.20"]
    assert table.loc["grid", "0.625"] == table.loc["fixed", "0.625"]
    assert table.loc["grid", "0.25"] == table.loc["grid", "ACR"] == "n/a"
    assert table.loc["fixed", "ACR"] == "0.450"
    assert len(comparison_remarks(runs)) == 1
    assert comparison_remarks(runs)[0].startswith("grid: decided at the radii of a grid only")
    assert comparison_remarks({"fixed": results}) == []
    alike = comparison_table({"one": on_grid, "two": on_grid}, [0.2])
    assert alike["ACR"].tolist() == [">= 0.450"] * 2
    tolerant = replace(on_grid, grid=(), tolerance=0.05)
    assert comparison_table({"grid": on_grid, "t": tolerant}, [0.2])["ACR"].tolist() == ["n/a"] * 2
    assert "lower bounds" in comparison_remarks({"t": tolerant})[0]


def test_the_figure_marks_a_grid_at_its_points(results: Results, on_grid: Results) -> None:
    (axes,) = accuracy_figure({"fixed": results, "grid": on_grid}).axes
    line = axes.lines[1]
    assert line.get_xdata().tolist() == [0.2, 0.625, 1.0]
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.3, np.nan])
    assert (line.get_marker(), line.get_linestyle()) == ("o", ":")
    assert axes.lines[0].get_marker() == "None"


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_figure_has_a_labelled_line_a_run(
    results: Results, tmp_path: Path, ending: str
) -> None:
    figure = accuracy_figure({"one": results, "two": results})
    (axes,) = figure.axes
    assert len(axes.lines) == 2
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(np.interp(0.55, x, y), 0.4)
    assert "[0, 1] pixel units" in axes.get_xlabel()
    path = tmp_path / f"f.{ending}"
    save_figure(figure, path)
    assert path.stat().st_size > 1000


def test_tensorboard_holds_the_curve_the_figure_and_the_images(
    results: Results, tmp_path: Path
) -> None:
    picture = np.full((1, 4, 4), 0.5, dtype=np.float32)
    triple = ImageTriple(7, picture, picture + 1, picture)
    for _ in range(2):  # showing a run again replaces what was shown
        write_run(tmp_path, "run", results, [triple], "text")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    curve = events.Scalars("certified accuracy (step = 1000 x l2 radius)")
    assert {e.step: round(e.value, 6) for e in curve}[500] == 0.5
    assert len(curve) == 96
    tags = events.Tags()["images"]
    assert "certified accuracy against radius" in tags
    image = events.Images("image 7: original, noisy, purified")[0]
    assert (image.width, image.height) == (12, 4)


def test_tensorboard_has_a_grid_at_its_points(on_grid: Results, tmp_path: Path) -> None:
    write_run(tmp_path, "run", on_grid, [], "text")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    curve = events.Scalars("certified accuracy (step = 1000 x l2 radius)")
    assert [(e.step, round(e.value, 6)) for e in curve] == [(200, 0.8), (625, 0.3)]
    assert "average certified radius (a lower bound)" in events.Tags()["scalars"]
