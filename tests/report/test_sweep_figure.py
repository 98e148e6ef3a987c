"""The outcome of a sweep, its table and its figure, on votes written by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from scipy.stats import binomtest

from diffsmooth.models.smoothing.sweep import Setting
from diffsmooth.report.figures import save_figure
from diffsmooth.report.sweep_figure import sweep_figure
from diffsmooth.report.sweep_table import SweepOutcome, judge, sweep_frame, sweep_text
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.outlook import goal_of

GOAL = goal_of(FixedSampleSize(100, 1000, 1e-3), 0.5, 0.5)
assert GOAL is not None
VOTES = 100  # an image; by the goal, 88 of them are enough


def held(count: int, votes: int = 90, images: int = 20) -> list[int]:
    """Of 20 images, the first few have so many votes for their label, the others 60."""
    return [votes] * count + [60] * (images - count)


def sweep(runs: dict[tuple[float, int], list[int]], trained: float | None = 0.25) -> SweepOutcome:
    settings, votes = [Setting(*pair) for pair in runs], np.array(list(runs.values()))
    assert GOAL is not None
    return judge(settings, votes, VOTES, GOAL, 0.5, trained, "images of a test")


def test_the_best_has_the_most_images_that_the_planned_run_would_certify() -> None:
    assert GOAL is not None
    assert 0.87 < GOAL.share <= 0.88
    # The others have more votes elsewhere; 87 of 100 are not enough.
    outcome = sweep({(0.3, 5): held(11, 100), (0.2, 1): held(12, 88), (0.3, 1): held(20, 87)})
    assert outcome.best.setting == Setting(0.2, 1)
    exact = binomtest(12, 20).proportion_ci(0.95, method="exact")
    assert outcome.best.estimate == pytest.approx((0.6, exact.low, exact.high))
    assert outcome.best.mean_share == pytest.approx((12 * 0.88 + 8 * 0.6) / 20)
    assert [row.setting for row in outcome.rows] == [(0.2, 1), (0.3, 1), (0.3, 5)]
    assert outcome.rows[1].estimate.value == 0.0


@pytest.mark.parametrize(
    ("runs", "trained", "best"),
    [
        ({(0.2, 1): held(9), (0.3, 9): held(9, 91)}, 0.25, (0.3, 9)),  # more votes
        ({(0.25, 9): held(9), (0.4, 3): held(9)}, 0.25, (0.4, 3)),  # cheaper
        ({(0.1, 3): held(9), (0.27, 3): held(9), (0.2, 3): held(9)}, 0.25, (0.27, 3)),
        ({(0.35, 3): held(9), (0.3, 3): held(9)}, None, (0.3, 3)),
    ],
    ids=["mean share", "smaller m", "nearest to sigma'", "sigma' not known"],
)
def test_ties(
    runs: dict[tuple[float, int], list[int]], trained: float | None, best: tuple[float, int]
) -> None:
    for order in (runs, dict(reversed(runs.items()))):
        assert sweep(order, trained).best.setting == best


def test_what_these_images_cannot_tell_from_the_best() -> None:
    # Of nested images 6 discordant ones are the fewest that tell: 2 / 2^6 = 0.031.
    outcome = sweep({(0.2, m): held(count) for m, count in ((1, 9), (3, 10), (5, 15))})
    assert outcome.best.setting == Setting(0.2, 5)
    beside = [row.beside for row in outcome.rows]
    assert [one.p_value for one in beside] == pytest.approx([2 / 2**6, 2 / 2**5, 1.0])
    assert [one.value for one in beside] == pytest.approx([-0.3, -0.25, 0.0])
    assert [row.setting.m for row in outcome.alike] == [3]


def test_images_that_did_not_choose_judge_what_the_others_chose() -> None:
    # Images 0, 2, .. like the first setting, 1, 3, .. the second: each half is deceived.
    even = np.arange(20) % 2 == 0
    outcome = sweep({(0.2, 1): np.where(even, 95, 60).tolist(),
                     (0.3, 1): np.where(even, 60, 95).tolist()})  # fmt: skip
    assert outcome.best.estimate.value == 0.5
    assert outcome.fresh is not None
    assert outcome.fresh.value == 0.0


def test_among_equals_the_best_looks_better_than_it_is(rng: np.random.Generator) -> None:
    assert GOAL is not None
    settings = [Setting(0.1 * (i + 1), 1) for i in range(8)]
    best, fresh = [], []
    for _ in range(40):
        votes = np.where(rng.random((8, 40)) < 0.5, 95, 60)  # each has a true share of 0.5
        outcome = judge(settings, votes, VOTES, GOAL, 0.5, None)
        assert outcome.fresh is not None
        best.append(outcome.best.estimate.value)
        fresh.append(outcome.fresh.value)
    assert np.mean(best) > 0.58
    assert np.mean(fresh) == pytest.approx(0.5, abs=0.05)  # four standard errors


def test_the_table_and_the_frame() -> None:
    outcome = sweep({(0.2, m): held(count) for m, count in ((1, 9), (3, 10), (5, 15))})
    text = sweep_text(outcome)
    sentence, header, *rows = text.splitlines()
    assert "label gets at least 0.87" in sentence
    assert "of 100 votes" in sentence
    assert "the planned run (N 1000, alpha 0.001, fixed) needs to certify radius 0.5" in sentence
    assert sentence.endswith("no certificate")
    assert "certified" not in header
    assert rows[0].split()[:7] == ["0.2", "1", "0.450", "0.230", "..", "0.685", "-0.300"]
    assert rows[0].endswith("0.735   differs (p 0.032)")
    assert rows[1].endswith("not told apart (p 0.063)")
    assert rows[2].endswith("<- taken")
    assert "taken: sigma_local 0.2, m 5; of 20 images 15 reach the share" in text
    assert "1 of the 2 others cannot be told from it" in text
    assert "the best of 3 settings, on the images that chose it, looks better than it is" in text
    assert "on images that did not choose: 0.750" in text
    frame = sweep_frame(outcome)
    assert list(frame.columns) == [
        "sigma_local", "m", "estimated_certified_accuracy", "estimate_low_95", "estimate_high_95",
        "less_taken", "less_taken_low_95", "less_taken_high_95", "mcnemar_p_value",
        "mean_share_of_votes_for_label", "taken", "radius", "share_of_votes_needed", "planned_n",
        "planned_alpha", "images", "votes_an_image",
    ]  # fmt: skip
    assert frame["estimated_certified_accuracy"].tolist() == [0.45, 0.5, 0.75]
    assert frame["taken"].tolist() == [0, 0, 1]


def test_one_setting_is_the_best_of_no_others() -> None:
    outcome = sweep({(0.2, 1): held(9)})
    text = sweep_text(outcome)
    assert "taken: sigma_local 0.2, m 1" in text
    assert "looks better" not in text
    assert outcome.fresh is None


def test_no_image_says_nothing() -> None:
    text = sweep_text(sweep({(0.2, m): held(0) for m in (1, 3)}))
    assert "no setting reaches it on an image, so this choice says nothing" in text


@pytest.mark.parametrize("trained", [0.25, None])
def test_the_figure_shows_each_setting_with_its_interval(trained: float | None) -> None:
    runs = {(s, m): held(8 + m) for s in (0.2, 0.3, 0.5) for m in (1, 3)} | {(0.0, 1): held(2)}
    outcome = sweep(runs, trained)
    figure = sweep_figure(outcome)
    (axes,) = figure.axes
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["m = 1", "m = 3"]
    for bar, m in zip(bars, (1, 3), strict=True):
        line, _, (segments,) = bar.lines
        assert line is not None
        expected = [row for row in outcome.rows if row.setting.m == m]
        levels = np.array([row.setting.sigma_local for row in expected])
        assert np.abs(np.asarray(line.get_xdata()) - levels).max() < 0.05  # half of the least gap
        assert np.asarray(line.get_ydata()).tolist() == [row.estimate.value for row in expected]
        ends = [(p[0][1], p[1][1]) for p in segments.get_segments()]
        assert np.allclose(ends, [(row.estimate.low, row.estimate.high) for row in expected])
    first, second = (np.asarray(bar.lines[0].get_xdata())[-1] for bar in bars)  # type: ignore[union-attr]
    assert first < second  # dodged
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [
        "m = 1", "m = 3", *(["sigma' = 0.25"] if trained else []), "taken",
        "on images that\ndid not choose",
    ]  # fmt: skip
    assert "[0, 1] pixel units" in axes.get_xlabel()
    assert axes.get_ylabel() == "estimated certified accuracy at l2 radius 0.5"
    assert axes.get_title() == (
        "sigma 0.5, planned N 1000; 100 votes on each of 20 images, 95 % intervals\n"
        "images of a test"
    )
    figure.savefig(io.BytesIO())  # raises where something does not fit


def test_a_sweep_of_one_point_has_a_figure(tmp_path: Path) -> None:
    save_figure(sweep_figure(sweep({(0.25, 1): held(9)})), tmp_path / "o.png")
    assert (tmp_path / "o.png").is_file()
