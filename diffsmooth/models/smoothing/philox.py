"""The Philox generator in torch's operations: the same integers on every device."""

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MULTIPLIERS_64 = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL_64 = (0x9E3779B97F4A7C15 - 2**64, 0xBB67AE8584CAA73B - 2**64)  # as int64
ROUNDS = 10

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """128 random bits of each counter, ten rounds.

    Args:
        counter: four words, int64 tensors that broadcast, each in 0 .. 2^32 - 1.
        key: two words, likewise.

    Returns:
        Four words, int64, each in 0 .. 2^32 - 1.

    Source: Salmon et al. 2011, section 4.1 and figure 2.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def _multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low words of a product. It may leave int64, but wraps: its 64 bits are right."""
    product = word * multiplier
    return (product >> 32) & MASK, product & MASK


def philox4x64(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """256 random bits of each counter, ten rounds: what NumPy's Philox makes of it.

    Args:
        counter: four words, int64 tensors that broadcast; the bits of numbers in 0 .. 2^64 - 1.
        key: two words, likewise.

    Returns:
        Four words, int64, likewise.

    Source: Salmon et al. 2011, section 4.1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply_64(c0, MULTIPLIERS_64[0])
        high1, low1 = _multiply_64(c2, MULTIPLIERS_64[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + WEYL_64[0], k1 + WEYL_64[1]  # int64 wraps
    return c0, c1, c2, c3


def _multiply_64(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of a product, by halves of 32 bits."""
    low, high = word & MASK, (word >> 32) & MASK
    by_low, by_high = multiplier & MASK, multiplier >> 32
    lows, middle_0, middle_1, highs = (
        low * by_low, high * by_low, low * by_high, high * by_high
    )  # fmt: skip
    carry = ((lows >> 32) & MASK) + (middle_0 & MASK) + (middle_1 & MASK)
    upper = highs + ((middle_0 >> 32) & MASK) + ((middle_1 >> 32) & MASK) + (carry >> 32)
    return upper, (carry << 32) | (lows & MASK)


def normals(high: Tensor, low: Tensor, angle: Tensor) -> Tensor:
    """Standard normal draws, float32 (..., 2), from three random words (...) each.

    Two words are the uniform number (2^32 high + low + 1/2) / 2^64 that the length of a pair comes
    from: the longest is 9.49, which one pair in 2^65 should exceed. With one word none would exceed
    6.76, which one draw in 7e10 should.

    Args:
        high, low, angle: int64, each in 0 .. 2^32 - 1.

    Source: Box & Muller 1958.
    """
    uniform = high.float() * 2.0**-32 + (low.float() + 0.5) * 2.0**-64
    length = torch.sqrt(-2.0 * torch.log(uniform))
    turn = 2.0 * math.pi * 2.0**-32 * (angle.float() + 0.5)
    return torch.stack([length * torch.cos(turn), length * torch.sin(turn)], dim=-1)
