"""What is printed of a run at its end, by hand."""

from dataclasses import replace

import numpy as np

from diffsmooth.report.text import summary_text
from diffsmooth.stats import Results


def test_the_closing_table_by_hand(results: Results) -> None:
    lines = summary_text(results).splitlines()
    assert lines[1].split() == ["0.00", "0.900", "0.554", "..", "0.998"]
    assert lines[2].split()[:2] == ["0.25", "0.700"]
    assert lines[4].split()[:2] == ["0.75", "0.200"]
    assert lines[5] == (
        "average certified radius 0.450 (largest possible 0.950), abstained 0.100, 10 images"
    )


def test_the_closing_table_of_a_grid_says_what_it_understates(on_grid: Results) -> None:
    lines = summary_text(on_grid).splitlines()
    assert lines[1].split()[:2] == ["0.20", "0.800"]
    assert lines[2].split()[:2] == ["0.625", "0.300"]
    assert lines[3].split() == ["1.00", "n/a"]  # beyond 0.95
    assert lines[4].startswith("average certified radius >= 0.450 (largest possible 0.950)")
    assert lines[5] == "plan group_sequential, 300 votes an image on average"
    assert lines[6].startswith("decided at the radii of a grid only")
    tolerant = summary_text(replace(on_grid, grid=(), tolerance=0.05)).splitlines()
    assert "within 5 % of the radius" in tolerant[-1]


def test_the_closing_table_says_what_was_not_certified(on_grid: Results) -> None:
    status = np.array(["failed"] + ["certified"] * 9)
    text = summary_text(replace(on_grid, status=status))
    assert "abstained 0.000" in text
    assert "1 image failed, which counts" in text
    status[0] = "skipped"
    text = summary_text(replace(on_grid, status=status))
    assert "abstained n/a: label-aware" in text
    assert "1 image skipped" in text
