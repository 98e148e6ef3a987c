"""Paired differences, the bootstrap and the envelope, against hand counts and closed forms."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from diffsmooth.stats import (
    Results,
    average_radius_interval,
    certified_accuracy,
    holm,
    paired_difference,
    upper_envelope,
)


def of(radii: list[float], label: int = 0, prediction: int = 0) -> Results:
    """A run whose images are right, with these radii."""
    size = len(radii)
    return Results(
        index=np.arange(size),
        label=np.full(size, label),
        prediction=np.full(size, prediction),
        radius=np.array(radii),
        seconds=np.ones(size),
    )


def test_mcnemar_by_hand() -> None:
    # At 0.5 the first alone has images 0 .. 5, the second alone image 6, both image 7.
    first = of([0.6] * 6 + [0.4, 0.5, 0.1])
    second = of([0.4] * 6 + [0.6, 0.5, 0.1])
    found = paired_difference(first, second, 0.5)
    assert (found.first_only, found.second_only, found.total) == (6, 1, 9)
    assert found.difference == pytest.approx(5 / 9)
    # Two-sided: 2 * P(X <= 1) of 7 fair coins = 2 * 8 / 128.
    assert found.p_value == pytest.approx(2 * 8 / 128)
    assert paired_difference(second, first, 0.5).p_value == pytest.approx(found.p_value)
    assert paired_difference(second, first, 0.5).difference == pytest.approx(-5 / 9)


@given(st.integers(1, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(a: int, b: int) -> None:
    found = paired_difference(of([1.0] * a + [0.0] * b), of([0.0] * a + [1.0] * b), 0.5)
    assert found.p_value == pytest.approx(binomtest(a, a + b).pvalue, rel=1e-9)


def test_a_p_value_is_never_nothing() -> None:
    assert 0.0 < paired_difference(of([1.0] * 2000), of([0.0] * 2000), 0.5).p_value < 1e-300


def test_holm_by_hand() -> None:
    # Ascending: 4 x 0.005, 3 x 0.01, then 2 x 0.03 = 0.06, which the last (0.04) is not below.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.6, 0.7, 0.01]) == pytest.approx([1.0, 1.0, 0.03])
    assert holm([]).tolist() == []


def test_holm_leaves_out_what_was_not_tested() -> None:
    found = holm([math.nan, 0.01, math.nan, 0.5])
    assert np.isnan(found).tolist() == [True, False, True, False]
    assert found[[1, 3]] == pytest.approx([0.02, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_closed_bonferroni_test_rejects(p_values: list[float]) -> None:
    """Closed testing: the largest Bonferroni p-value of all subsets that a hypothesis is in."""
    every = range(len(p_values))
    subsets = [
        subset for size in every for subset in itertools.combinations(every, size + 1)
    ]  # fmt: skip
    bonferroni = {s: min(1.0, len(s) * min(p_values[i] for i in s)) for s in subsets}
    closed = [max(bonferroni[s] for s in subsets if i in s) for i in every]
    assert holm(p_values) == pytest.approx(closed, rel=1e-12, abs=0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.inf])
def test_holm_takes_probabilities(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"p-values must be in \[0, 1\]"):
        holm([0.5, wrong])


def test_runs_that_no_image_tells_apart_do_not_differ() -> None:
    run = of([0.1, 0.9])
    found = paired_difference(run, run, 0.5)
    assert (found.difference, found.p_value) == (0.0, 1.0)


def test_a_wrong_prediction_is_not_certified_at_any_radius() -> None:
    found = paired_difference(of([9.0]), of([9.0], prediction=1), 0.0)
    assert (found.first_only, found.second_only) == (1, 0)


def test_only_the_same_images_can_be_paired() -> None:
    run = of([0.1, 0.9])
    with pytest.raises(ValueError, match="different images"):
        paired_difference(run, replace(run, index=np.array([0, 2])), 0.5)
    with pytest.raises(ValueError, match="no images"):
        paired_difference(of([]), of([]), 0.5)


def test_what_a_run_does_not_measure_is_not_compared() -> None:
    run = of([0.1, 0.9])
    assert math.isnan(paired_difference(run, replace(run, max_radius=0.4), 0.5).p_value)
    assert math.isnan(paired_difference(replace(run, grid=(0.25,)), run, 0.5).p_value)


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    radii = np.random.default_rng(1).exponential(size=2000)
    interval = average_radius_interval(of(radii.tolist()))
    half = 1.96 * radii.std() / math.sqrt(2000)
    np.testing.assert_allclose(interval, [radii.mean() - half, radii.mean() + half], rtol=0.01)
    assert interval == average_radius_interval(of(radii.tolist()))  # the same each time


def test_the_bootstrap_of_what_does_not_vary() -> None:
    assert all(map(math.isnan, average_radius_interval(of([0.5]))))  # one image tells nothing
    assert average_radius_interval(of([0.5] * 9)) == (0.5, 0.5)
    assert average_radius_interval(of([0.5] * 9, prediction=1)) == (0.0, 0.0)
    with pytest.raises(ValueError, match="no images"):
        average_radius_interval(of([]))


def test_the_envelope_by_hand() -> None:
    small, large = of([0.4, 0.4, 0.4, 0.0]), of([1.0, 1.0, 0.2, 0.2], prediction=0)
    wrong = replace(large, prediction=np.array([0, 0, 1, 1]))
    found = upper_envelope([small, wrong], [0.0, 0.3, 0.5, 2.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 0.75, 0.5, 0.0])
    assert found.winner.tolist() == [0, 0, 1, 0]  # the first of equals
    limited = [replace(run, max_radius=1.0) for run in (small, wrong)]
    found = upper_envelope(limited, [0.5, 2.0])
    assert found.winner.tolist() == [1, -1]
    assert math.isnan(found.accuracy[1])
    with pytest.raises(ValueError, match="no runs"):
        upper_envelope([], [0.0])


@given(
    runs=st.lists(st.lists(st.floats(0.0, 2.0), min_size=3, max_size=3), min_size=1, max_size=4),
    grid=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=5),
)
def test_the_envelope_is_the_winners_accuracy_and_no_run_is_above(
    runs: list[list[float]], grid: list[float]
) -> None:
    results = [of(radii) for radii in runs]
    found = upper_envelope(results, grid)
    for i, radius in enumerate(grid):
        values = [certified_accuracy(run, [radius])[0] for run in results]
        assert found.accuracy[i] == max(values) == values[found.winner[i]]
