"""The normal distribution on whole numbers: floors of its probabilities, proven to the last bit.

For z ~ N(0, level^2), z in units of 1/255, F(k) is the probability that z rounds to k or less. What
is computed here is floor(2^64 F(k)), by whole numbers alone: each step is rounded down in one and
up in the other of two numbers that hold the truth between them.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import NamedTuple

import numpy as np

WORD = 64  # bits of a random word
FRACTION = 192  # bits behind the point
GREY_LEVELS = 255  # steps of a pixel between 0 and 1
# So many cells at most: beyond, the table would take long to make, and nobody smooths so much.
HIGHEST_LEVEL = 8.0

# pi lies between this number of 10^-60 and the next.
PI = 3141592653589793238462643383279502884197169399375105820974944, 10**60


class Between(NamedTuple):
    """A number in units of 2^-FRACTION that lies between two whole ones."""

    low: int
    high: int


@lru_cache(maxsize=16)
def cell_floors(level: float) -> np.ndarray:
    """floor(2^64 F(k)), uint64 (2 * largest + 2,), k = -largest - 1 .. largest, ascending.

    The first is 0 and the last 2^64 - 1, and no other k between has these.

    Args:
        level: standard deviation of the noise, in [0, 1] pixel units: the decimal number that it is
            printed as, 0.1 being 1/10.

    Raises:
        ValueError: not in (0, HIGHEST_LEVEL].
    """
    if not 0 < level <= HIGHEST_LEVEL:
        raise ValueError(f"noise by whole numbers takes levels to {HIGHEST_LEVEL:g}, got {level}")
    scale = 2 * GREY_LEVELS * Fraction(repr(float(level)))  # the border above k is (2 k + 1) / this
    upper: list[int] = []
    while not upper or upper[-1] < 2**WORD - 1:
        upper.append(_floor_at((2 * len(upper) + 1) / scale))
    # F(-k - 1) = 1 - F(k), and none of them is whole.
    lower = [2**WORD - 1 - floor for floor in reversed(upper)]
    floors = np.array(lower + upper, dtype=np.uint64)
    floors.flags.writeable = False
    return floors


def _floor_at(x: Fraction) -> int:
    """floor(2^64 Phi(x)) for x > 0: all ones from 10 on, where 1 - Phi(x) < phi(x) / x < 2^-76.

    Phi(x) = 1/2 + (x + x^3 / 3 + x^5 / (3 * 5) + ...) / (e^(x^2 / 2) sqrt(2 pi)).

    Source: Abramowitz & Stegun 1964, 26.2.11.
    """
    if x >= 10:
        return 2**WORD - 1
    square = x * x
    odd = _sum_of_terms(square, lambda k: 2 * k + 1)
    power = _sum_of_terms(square, lambda k: 2 * k)
    root = Between(*(isqrt(2 * (PI[0] + i) * 4**FRACTION // PI[1]) + i for i in (0, 1)))
    shift = WORD + FRACTION
    low, rest = divmod(x.numerator * odd.low << shift, x.denominator * power.high * root.high)
    high = (x.numerator * odd.high << shift) // (x.denominator * power.low * root.low)
    # Otherwise the truth may be a whole number, or have one between its bounds: never seen.
    if low != high or not rest:
        raise ArithmeticError(f"{FRACTION} bits do not tell the floor at {x}")
    return 2 ** (WORD - 1) + low


def _sum_of_terms(square: Fraction, divisor: Callable[[int], int]) -> Between:
    """1 + square / d(1) + square^2 / (d(1) d(2)) + ..., with d rising."""
    low = high = term_low = term_high = 1 << FRACTION
    k = 0
    while True:
        k += 1
        term_low = term_low * square.numerator // (square.denominator * divisor(k))
        term_high = -(-term_high * square.numerator // (square.denominator * divisor(k)))
        low, high = low + term_low, high + term_high
        # From here on each term is at most half of the one before: all are less than the last.
        if divisor(k) >= 2 * square and term_high <= 1:
            return Between(low, high + term_high)
