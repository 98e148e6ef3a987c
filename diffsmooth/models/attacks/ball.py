"""How far an attacked image is from the image, to the last bit, and how it is kept in the ball.

Norms of float32 tensors round either way, and a "contradiction" of a certificate may be nothing but
that (Jin et al. 2022). Here they are computed in float64 and rounded up.

An image on the 8-bit grid stands for the exact rationals k/255 where its noise is exact
(`on_grid`), and for its float32 pixels elsewhere.
"""

import math

import numpy as np
from torch import Tensor

from diffsmooth.models.smoothing.normal_cells import GREY_LEVELS

# Differences, squares, their exactly rounded sum (fsum), the root and a division: each has a
# relative error of 2**-53 at most, and less than 2**-50 together.
ROUNDED_UP = 1.0 + 2.0**-50
SHRINK = 1.0 - 2.0**-20


def l2_distance_up(image: Tensor, attacked: Tensor, on_grid: bool) -> float:
    """An upper bound of the l2 norm of attacked - image, above it by 2**-49 of it at most.

    Args:
        image, attacked: float32 (C, H, W), in [0, 1].
        on_grid: whether the image stands for the rationals k/255 next to its pixels.

    Source: Jin et al. 2022 (Getting a-round guarantees), on rounding in norms.
    """
    x, moved = _pixels(image), _pixels(attacked)
    if not on_grid:
        return _norm_up(moved - x)
    # 255 times a float32 is exact in float64.
    return _norm_up(GREY_LEVELS * moved - np.rint(GREY_LEVELS * x)) / GREY_LEVELS * ROUNDED_UP


def into_ball(image: Tensor, attacked: Tensor, epsilon: float, on_grid: bool) -> Tensor:
    """The attacked image (C, H, W) in [0, 1], moved towards the image until it is in the ball.

    Args:
        image, attacked, on_grid: see `l2_distance_up`; attacked may leave [0, 1].
        epsilon: l2, in [0, 1] pixel units, > 0.
    """
    attacked = attacked.clamp(0, 1)
    length = l2_distance_up(image, attacked, on_grid)
    scale = min(1.0, epsilon / length) if length else 1.0
    while length > epsilon:
        moved = image.double() + scale * (attacked.double() - image.double())
        nearer = moved.float().clamp(0, 1)
        scale *= SHRINK
        if l2_distance_up(image, nearer, on_grid) <= epsilon:
            return nearer
        if scale * length < 1e-12:  # not even float32's rounding of the image is in it
            return image
    return attacked


def onto_grid(image: Tensor, attacked: Tensor, epsilon: float) -> Tensor:
    """The attacked image with its pixels on the 8-bit grid, in the ball around one that is, too.

    Each pixel goes to the nearest level; where that leaves the ball, those that gained most by it
    go to the next level towards the image, until it does not.

    Args:
        image, attacked: float32 (C, H, W), in [0, 1].
        epsilon: l2, in [0, 1] pixel units, > 0.
    """
    levels = np.rint(GREY_LEVELS * _pixels(image))
    wanted = GREY_LEVELS * _pixels(attacked) - levels
    steps = np.rint(wanted)
    gain = np.abs(steps) - np.abs(wanted)
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 0]  # the others went towards the image
    saved = np.cumsum(2 * np.abs(steps[order]) - 1)
    excess = float(np.sum(steps**2)) - (GREY_LEVELS * epsilon) ** 2 / ROUNDED_UP
    back = order[: int(np.searchsorted(saved, excess)) + 1] if excess > 0 else order[:0]
    steps[back] -= np.sign(steps[back])
    pixels = np.float32(levels + steps) / np.float32(GREY_LEVELS)
    return image.new_tensor(pixels).view_as(image)


def _pixels(image: Tensor) -> np.ndarray:
    """float64 (C H W)."""
    return image.detach().cpu().numpy().astype(np.float64).ravel()


def _norm_up(difference: np.ndarray) -> float:
    return math.sqrt(math.fsum(difference * difference)) * ROUNDED_UP
