import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import beta

from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
    high_probability_accuracy,
)
from diffsmooth.stats.printed import rounded_down


@pytest.fixture
def results() -> Results:
    """Four images: right at 0.3 and at 1.0, wrong at 2.0, abstained."""
    return Results(
        index=np.arange(4),
        label=np.array([0, 1, 2, 3]),
        prediction=np.array([0, 1, 0, -1]),
        radius=np.array([0.3, 1.0, 2.0, 0.0]),
        seconds=np.ones(4),
        max_radius=2.5,
    )


def test_certified_accuracy_by_hand(results: Results) -> None:
    accuracy = certified_accuracy(results, [0.0, 0.3, 0.31, 1.0, 1.01, 2.6])
    assert accuracy[:5].tolist() == [0.5, 0.5, 0.25, 0.25, 0.0]
    assert math.isnan(accuracy[5])  # no vote count could have certified it: not 0


def test_nothing_is_measured_between_the_points_of_a_grid(results: Results) -> None:
    grid = replace(results, grid=(0.3, 1.0, 3.0))
    accuracy = certified_accuracy(grid, [0.0, 0.3, 0.31, 1.0, 3.0])
    assert accuracy[[1, 3]].tolist() == [0.5, 0.25]
    assert np.isnan(accuracy[[0, 2, 4]]).all()
    interval = certified_accuracy_interval(grid, [0.3, 0.31])
    assert np.isnan(interval).tolist() == [[False, False], [True, True]]
    assert grid.understates
    assert not results.understates


def test_average_certified_radius_by_hand(results: Results) -> None:
    assert average_certified_radius(results) == pytest.approx(1.3 / 4)


@given(st.lists(st.floats(0.0, 4.0), min_size=1, max_size=30))
@example([0.29] * 3)
@example([i / 10 for i in range(10)])
def test_the_average_is_the_decimals_own_rounded_down(radii: list[float]) -> None:
    zeros = np.zeros(len(radii), dtype=np.int64)
    run = Results(np.arange(len(radii)), zeros, zeros, np.array(radii), np.ones(len(radii)))
    truth = sum(Fraction(repr(radius)) for radius in radii) / len(radii)
    average = average_certified_radius(run)
    assert Fraction(repr(average)) <= truth
    assert truth - Fraction(repr(average)) < 2 * Fraction(math.ulp(average))
    decimals = Fraction(rounded_down(average, 3))
    assert decimals <= truth
    assert truth < decimals + Fraction(1, 1000) + Fraction(1, 10**15)


def test_intervals_are_clopper_pearson(results: Results) -> None:
    low, high = certified_accuracy_interval(results, [0.0])[0]
    assert low == pytest.approx(beta.ppf(0.025, 2, 3))
    assert high == pytest.approx(beta.ppf(0.975, 3, 2))


def test_high_probability_bound_by_hand(results: Results) -> None:
    alpha, rho = 0.001, 0.05
    log = math.log(20)
    expected = 0.5 - 0.001 - math.sqrt(2 * 0.001 * 0.999 * log / 4) - log / 12
    assert high_probability_accuracy(results, [0.0], alpha, rho)[0] == pytest.approx(expected)


def test_beyond_alpha_one_half_the_variance_is_the_largest_of_a_coin(results: Results) -> None:
    # At alpha 0.9 a certificate that is wrong with probability 1/2 spreads the most.
    rho, total = 0.5, 4
    spread = math.sqrt(2 * 0.25 * math.log(2) / total) + math.log(2) / (3 * total)
    found = high_probability_accuracy(results, [0.0], 0.9, rho)[0]
    assert found == pytest.approx(certified_accuracy(results, [0.0])[0] - 0.9 - spread)


def test_no_images_have_no_accuracy() -> None:
    empty = Results(*(np.empty(0) for _ in range(5)))
    with pytest.raises(ValueError, match="no images"):
        certified_accuracy(empty, [0.0])
    with pytest.raises(ValueError, match="no images"):
        average_certified_radius(empty)
