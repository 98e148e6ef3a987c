"""Distances to the last bit, against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffsmooth.models.attacks.ball import into_ball, l2_distance_up, onto_grid

SHAPE = (1, 5, 7)
GRID = pytest.mark.parametrize("on_grid", [False, True])


def image_on_grid(seed: int) -> Tensor:
    levels = torch.randint(0, 256, SHAPE, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def moved(image: Tensor, seed: int, size: float) -> Tensor:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1))
    return (image + size * noise).clamp(0, 1)


def exact_square(image: Tensor, attacked: Tensor, on_grid: bool) -> Fraction:
    """The squared distance as a rational."""
    total = Fraction(0)
    for x, y in zip(image.flatten().tolist(), attacked.flatten().tolist(), strict=True):
        centre = Fraction(round(255 * x), 255) if on_grid else Fraction(x)
        total += (Fraction(y) - centre) ** 2
    return total


@GRID
@given(st.integers(0, 2**20), st.sampled_from([0.0, 1e-9, 1e-3, 0.3]))
def test_the_norm_is_rounded_up_by_next_to_nothing(on_grid: bool, seed: int, size: float) -> None:
    image = image_on_grid(seed)
    attacked = moved(image, seed, size)
    length = Fraction(l2_distance_up(image, attacked, on_grid))
    square = exact_square(image, attacked, on_grid)
    assert square <= length**2 <= square * (1 + Fraction(1, 2**47))


def test_a_norm_in_float32_would_be_below_the_truth() -> None:
    below = 0
    for seed in range(50):
        image = image_on_grid(seed)
        attacked = moved(image, seed, 0.1)
        norm = Fraction(float((attacked - image).norm()))
        below += norm**2 < exact_square(image, attacked, on_grid=False)
    assert below > 5


@GRID
@given(st.integers(0, 2**20), st.floats(0.01, 3.0))
def test_what_is_moved_into_the_ball_is_in_it(on_grid: bool, seed: int, epsilon: float) -> None:
    image = image_on_grid(seed)
    attacked = into_ball(image, moved(image, seed, 0.3), epsilon, on_grid)
    assert torch.equal(attacked, attacked.clamp(0, 1))
    length = l2_distance_up(image, attacked, on_grid)
    assert length <= epsilon
    far = l2_distance_up(image, moved(image, seed, 0.3), on_grid)
    assert length > min(far, epsilon) * (1 - 1e-4)


@given(st.integers(0, 2**20), st.floats(0.001, 2.0))
def test_on_the_grid_it_is_in_the_ball_too(seed: int, epsilon: float) -> None:
    image = image_on_grid(seed)
    near = into_ball(image, moved(image, seed, 0.3), epsilon, on_grid=True)
    found = onto_grid(image, near, epsilon)
    levels = np.rint(255 * found.double().numpy())
    assert torch.equal(found, torch.from_numpy(levels.astype(np.float32)) / 255)
    centre = np.rint(255 * image.double().numpy())
    square = Fraction(int(((levels - centre) ** 2).sum()), 255**2)
    assert square <= Fraction(epsilon) ** 2
    assert np.abs(levels - 255 * near.double().numpy()).max() <= 1.0001


def test_the_grid_costs_little_of_a_wide_ball() -> None:
    image = torch.full((3, 32, 32), 127 / 255)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    near = into_ball(image, image + 0.1 * noise, 1.0, on_grid=True)
    found = onto_grid(image, near, 1.0)
    assert l2_distance_up(image, found, on_grid=True) > 0.999
