from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffsmooth.report import read_results
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.tables import comparison_table, default_radii, summary_text
from diffsmooth.report.tensorboard import ImageTriple, write_run
from diffsmooth.stats import Results

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
