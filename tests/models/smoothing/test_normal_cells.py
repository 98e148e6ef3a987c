from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.stats import norm

from diffsmooth.models.smoothing.normal_cells import HIGHEST_LEVEL, cell_floors


@pytest.mark.parametrize("level", [0.25, 0.12, 0.001, 1 / 3])
def test_floors_are_those_of_400_bits(level: float) -> None:
    floors = cell_floors(level)
    largest = len(floors) // 2 - 1
    scale = 510 * Fraction(repr(level))
    with mpmath.workprec(400):
        for place, k in enumerate(range(-largest - 1, largest + 1)):
            border = (2 * k + 1) / scale
            below = mpmath.ncdf(mpmath.mpf(border.numerator) / border.denominator)
            assert int(mpmath.floor(below * 2**64)) == int(floors[place]), k


@pytest.mark.parametrize("level", [0.25, 1.0])
def test_cells_have_the_normals_probabilities(level: float) -> None:
    floors = cell_floors(level)
    largest = len(floors) // 2 - 1
    borders = (np.arange(-largest - 1, largest + 1) + 0.5) / (255 * level)
    np.testing.assert_allclose(floors / 2.0**64, norm.cdf(borders), rtol=1e-9, atol=2.0**-60)
    assert norm.sf(borders[-2]) > 2.0**-64 > norm.sf(borders[-1])  # of no use beyond


def test_the_ends_are_the_ends_of_all_words_and_the_rest_rises() -> None:
    floors = cell_floors(0.5)
    assert (int(floors[0]), int(floors[-1])) == (0, 2**64 - 1)
    assert (floors[1:] >= floors[:-1]).all()
    assert floors[1] > 0
    assert floors[-2] < 2**64 - 1
    mirrored = [2**64 - 1 - int(floor) for floor in reversed(floors)]
    assert mirrored == floors.tolist()
    assert len(floors) == 2318


def test_a_level_is_the_decimal_number_that_it_is_printed_as() -> None:
    exact = Fraction(0.1)  # a little more than 1/10: too little to tell in most cells
    assert exact > Fraction(1, 10)
    scale = 510 * Fraction(1, 10)
    with mpmath.workprec(400):
        border = mpmath.mpf(31 * scale.denominator) / scale.numerator
        other = 31 / (510 * exact)
        wanted = int(mpmath.floor(mpmath.ncdf(border) * 2**64))
        of_float = int(
            mpmath.floor(mpmath.ncdf(mpmath.mpf(other.numerator) / other.denominator) * 2**64)
        )
    floors = cell_floors(0.1)
    assert int(floors[len(floors) // 2 + 15]) == wanted != of_float


@pytest.mark.parametrize("level", [0.0, -0.5, HIGHEST_LEVEL * 1.01, float("nan"), float("inf")])
def test_other_levels_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="noise by whole numbers takes levels to 8"):
        cell_floors(level)
