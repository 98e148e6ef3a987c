"""Group norm, FiLM and SiLU of channels-last images on CUDA, in one operation of our own.

What PyTorch makes of the same in eager mode: its kernels for group norm on CUDA take contiguous
memory, and autocast has them in float32. Bytes of device memory for a number in bf16, read +
written, computed and not measured: a cast (2 + 4), a copy (4 + 4), the statistics (4), the norm
(4 + 4), SiLU (4 + 4), and for the next convolution a cast (4 + 2) and a copy (2 + 2), 44 in all.
Here: 4 (2 + 2) where a program holds all pixels of a group, and 6 elsewhere, as x is read twice.

Statistics are float32, by the corrected two-pass algorithm (Chan, Golub & LeVeque 1983): a mean,
then mean and mean square of what is left of it. E[x^2] - E[x]^2 would lose all digits of a variance
that is small beside the mean; a mean that is not corrected is wrong by its own rounding, which a
nearly constant group has divided by its tiny deviation. Welford's updates need a division a number.

A row's result depends on its own numbers alone, bit by bit: no program sees two images, how the
work is split follows from (C, H, W) and not from the batch, and what several programs add up goes
to a buffer and is added in one order.
"""

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

REVISION = "triton 1"  # in identities: raised whenever low bits of a result may change

# Sizes of tiles in numbers, powers of two: by registers (2^16 a processor of an H100; compiled for
# it, a thread needs 128 of them for 64 numbers) and by lines of its cache. Not yet tuned on a GPU.
HELD = 2**14  # at most, where a program holds all pixels of a group
TILE = 2**12  # at a time, elsewhere
A_WARP = 2**11  # numbers of a held tile to a warp: 64 a thread
LANES = 64  # channels of a tile, where a group has no more: a cache line of bf16 ...
FEWEST = 16  # ... and a sector of it, the least that memory gives
CHUNK = 2**10  # pixels that a program looks at, at least, where several share an image ...
MOST_CHUNKS = 32  # ... and how many these are, at most

NUMBER_FORMATS = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_IMAGE = 2**31  # numbers: places in an image are int32


class Split(NamedTuple):
    """How an image is shared among programs.

    Attributes:
        groups: of a program; they divide all groups.
        lanes: channels of a tile, a power of two: those of the groups, and some that are masked.
        rows: pixels of a tile, a power of two.
        tiles: of a program, one after the other.
        chunks: programs that share the pixels; with one tile in one chunk a program holds them all.
    """

    groups: int
    lanes: int
    rows: int
    tiles: int = 1
    chunks: int = 1

    @classmethod
    def of(cls, channels: int, pixels: int, groups: int) -> "Split":
        """That of images with so many channels and pixels: of nothing else."""
        size, rows = channels // groups, _power_of_two(pixels)
        widest, fewest = (max(lanes, _power_of_two(size)) for lanes in (LANES, FEWEST))
        held = rows * fewest <= HELD
        lanes = min(widest, HELD // rows) if held else widest
        taken = _largest_divisor(groups, lanes // size)
        lanes = _power_of_two(taken * size)
        if held:
            return cls(taken, lanes, rows)
        rows = max(1, TILE // lanes)
        tiles = -(-max(CHUNK, -(-pixels // MOST_CHUNKS)) // rows)
        return cls(taken, lanes, rows, tiles, -(-pixels // (tiles * rows)))


def takes(x: Tensor) -> bool:
    """Whether it is for x (B, C, H, W): on CUDA, channels last, with no gradient to be known.

    And real: what is traced for its shapes alone (`FakeTensorMode`) is no plain `Tensor`.
    """
    return (
        x.is_cuda
        and not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.dtype in NUMBER_FORMATS
        and x.is_contiguous(memory_format=torch.channels_last)
        and x[:1].numel() < LARGEST_IMAGE
    )


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    condition: Tensor | None = None,
    silu: bool = False,
) -> Tensor:
    """silu(norm(x) * (1 + scale) + shift), the condition and SiLU optional; see `takes`.

    Args:
        x: (B, C, H, W) in one of `NUMBER_FORMATS`, in channels-last memory.
        groups: C is a multiple of it.
        weight, bias: (C,), of the norm's affine map, on x's device.
        eps: is added to the variance.
        condition: (B or 1, 2 C), scales, then shifts: each row's, or the same for all.
        silu: whether it follows.

    Returns:
        Like x, computed in float32 and rounded once.
    """
    # Only here: it imports triton, which is not everywhere.
    from diffsmooth.models.kernels import group_norm_programs as programs

    batch, channels, height, width = x.shape
    pixels, y = height * width, torch.empty_like(x, memory_format=torch.channels_last)
    if not y.numel():
        return y
    split = Split.of(channels, pixels, groups)
    blocks, used = groups // split.groups, split.groups * channels // groups
    told = weight if condition is None else condition.contiguous()
    row_of_condition = 0 if condition is None or len(condition) == 1 else 2 * channels
    affine = (weight, bias, told, row_of_condition, eps)
    tile = {"SIZE": channels // groups, "USED": used, "LANES": split.lanes, "ROWS": split.rows}
    after = {"FILM": condition is not None, "SILU": silu}
    # Triton starts programs on the current device, compiled code on that of its tensors.
    compiling = torch.compiler.is_compiling()
    with contextlib.nullcontext() if compiling else torch.cuda.device_of(x):
        if split.tiles == split.chunks == 1:
            after["FULL"] = used == split.lanes and pixels == split.rows
            warps = min(max(split.rows * split.lanes // A_WARP, 1), 8)
            programs.whole[(batch * blocks,)](
                x, y, *affine, channels, pixels, blocks, **tile, **after,
                num_warps=warps, maxnreg=128,
            )  # fmt: skip
            return y
        shape = (batch, split.chunks, 2, groups)
        parts = torch.empty(shape, dtype=torch.float32, device=x.device)
        grid = (batch * split.chunks * blocks,)
        shares = (channels, pixels, groups, blocks, split.chunks, split.tiles)
        chunks = _power_of_two(split.chunks)
        programs.moments[grid](x, parts, *shares, **tile, num_warps=8)
        programs.apply[grid](
            x, y, parts, *affine, *shares, **tile, **after, CHUNKS=chunks, num_warps=8
        )
    return y


def _power_of_two(number: int) -> int:
    """The least that is no smaller than a number >= 1."""
    return 1 << (number - 1).bit_length()


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is at most a limit >= 1."""
    return next(d for d in range(min(limit, number), 0, -1) if number % d == 0)
