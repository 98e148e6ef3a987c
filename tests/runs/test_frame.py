"""Results as a data frame, and in a line."""

from dataclasses import replace

import numpy as np
import pandas as pd

from diffsmooth.stats import Results
from diffsmooth.stats.results import NO_LABEL

COLUMNS = [
    "idx", "label", "predict", "radius", "correct", "p_lower", "votes", "status", "seconds",
    "sigma", "alpha", "plan",
]  # fmt: skip


def test_the_frame_says_what_the_results_say(on_grid: Results) -> None:
    results = replace(on_grid, sigma=0.5, alpha=0.001, p_lower=np.linspace(0.4, 0.9, 10))
    frame = results.to_frame()
    assert frame.columns.tolist() == COLUMNS
    assert frame["idx"].tolist() == list(range(10))
    assert frame["predict"].tolist() == [-1] + [0] * 9
    assert frame["correct"].tolist() == [False] + [True] * 9
    assert frame["radius"].tolist() == results.radius.tolist()
    assert frame["p_lower"].tolist() == results.p_lower.tolist()  # type: ignore[union-attr]
    assert frame["votes"].tolist() == [300] * 10
    assert frame["status"].tolist() == ["abstained"] + ["certified"] * 9
    assert set(frame["sigma"]) == {0.5}
    assert set(frame["plan"]) == {"group_sequential"}
    # Certified accuracy by a reader's own hand.
    assert (frame["correct"] & (frame["radius"] >= 0.5)).mean() == 0.5


def test_what_is_not_known_is_missing(results: Results) -> None:
    frame = replace(results, label=np.full(10, NO_LABEL), certifies=False).to_frame()
    for name in ("label", "correct", "radius", "p_lower", "votes", "status", "sigma", "plan"):
        assert frame[name].isna().all(), name
    assert isinstance(frame["label"].dtype, pd.Int64Dtype)


def test_a_line_rounds_down_and_says_what_is_missing(results: Results, on_grid: Results) -> None:
    assert repr(results) == (
        "Results(10 images; 1 without answer; certified accuracy 0.900 at 0, 0.700 at 0.25, 0.500 "
        "at 0.5, 0.200 at 0.75; average certified radius 0.450)"
    )
    assert "certified accuracy 0.800 at 0.2, 0.300 at 0.625; av" in repr(on_grid)
    assert "average certified radius >= 0.4" in repr(on_grid)
    unlabelled = replace(results, label=np.full(10, NO_LABEL))
    assert repr(unlabelled) == "Results(10 images; 1 without answer; no labels)"
    predictions = replace(results, certifies=False, radius=np.zeros(10), max_radius=0.0)
    assert repr(predictions) == "Results(10 images; 1 without answer; accuracy 0.900 at 0)"
    nothing = replace(results, **{n: getattr(results, n)[:0] for n in (
        "index", "label", "prediction", "radius", "seconds")})  # fmt: skip
    assert repr(nothing) == "Results(0 images; 0 without answer)"
