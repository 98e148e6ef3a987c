"""The group norm's programs in Triton's interpreter, beside float64. Run by `test_group_norm.py`.

In float32: how the interpreter rounds to bf16 is not how a GPU does.
"""

from typing import Any

import pytest
import torch
from fused_unets import unets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffsmooth.models.kernels import group_norm as kernel
from diffsmooth.models.kernels.group_norm import Split, group_norm
from diffsmooth.models.smoothing import fused_norm
from diffsmooth.models.smoothing.fused_norm import FusedNorm

EPS = 1e-5
NARROW = {"HELD": 2**9, "TILE": 2**8, "LANES": 32, "FEWEST": 4, "CHUNK": 2**4, "MOST_CHUNKS": 6}


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def drawn(
    shape: tuple[int, ...], mean: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, and a condition for each row."""
    generator = torch.Generator().manual_seed(seed)
    rows, channels = shape[:2]
    sizes = (shape, (channels,), (channels,), (rows, 2 * channels))
    x, *others = (torch.randn(size, generator=generator) for size in sizes)
    return last(x + mean), *others  # type: ignore[return-value]


def truth(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, condition: Tensor | None, silu: bool
) -> Tensor:
    """By its definition, in float64."""
    grouped = x.double().unflatten(1, (groups, -1))
    centred = grouped - grouped.mean(dim=(2, 3, 4), keepdim=True)
    variance = centred.square().mean(dim=(2, 3, 4), keepdim=True)
    h = (centred / (variance + EPS).sqrt()).flatten(1, 2)
    h = h * weight.double()[:, None, None] + bias.double()[:, None, None]
    if condition is not None:
        scale, shift = condition.double()[:, :, None, None].chunk(2, dim=1)
        h = h * (1 + scale) + shift
    return h * h.sigmoid() if silu else h


def check(x: Tensor, groups: int, *affine: Any, tolerance: float = 1e-5) -> None:
    weight, bias, condition, silu = affine
    y = group_norm(x, groups, weight, bias, EPS, condition, silu)
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected = truth(x, groups, *affine)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(y.double() / scale, expected / scale, rtol=0, atol=tolerance)


# Of the CIFAR-10 U-Net, of the ImageNet one (the large ones at fewer pixels), of the small one, and
# of none: (channels, height, width), 32 groups.
SHAPES = [
    (128, 32, 32), (384, 16, 16), (512, 8, 8), (256, 4, 4),
    (256, 40, 40), (1024, 33, 31), (768, 16, 16), (1536, 8, 8), (2048, 8, 8),
    (32, 32, 32), (64, 7, 5), (96, 1, 1), (992, 3, 3), (160, 1, 37),
]  # fmt: skip
WAYS = [(128, 8, 8), (64, 36, 36)]  # held, and shared by two programs


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_norm_with_film_and_silu(shape: tuple[int, int, int]) -> None:
    rows = 2 if shape[0] * shape[1] * shape[2] < 2**16 else 1
    x, weight, bias, condition = drawn((rows, *shape), mean=1.0)
    check(x, 32, weight, bias, condition, True)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("film", ["none", "shared", "each"])
@pytest.mark.parametrize("shape", [(96, 9, 9), (64, 36, 36)])
def test_film_and_silu_are_optional(shape: tuple[int, int, int], film: str, silu: bool) -> None:
    x, weight, bias, condition = drawn((2, *shape))
    told = {"none": None, "shared": condition[:1], "each": condition}[film]
    check(x, 32, weight, bias, told, silu)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 2),
    groups=st.integers(1, 6),
    size=st.integers(1, 33),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    film=st.booleans(),
    silu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape(
    rows: int, groups: int, size: int, height: int, width: int, film: bool, silu: bool, seed: int
) -> None:
    """With small tiles, so that small images are split in every way."""
    x, weight, bias, condition = drawn((rows, groups * size, height, width), 0.5, seed)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NARROW.items():
            patch.setattr(kernel, name, value)
        check(x, groups, weight, bias, condition if film else None, silu)


@pytest.mark.parametrize("mean", [1e2, 1e4])
@pytest.mark.parametrize("shape", WAYS)
def test_a_mean_far_larger_than_the_deviation_costs_no_more_than_its_own_rounding(
    shape: tuple[int, int, int], mean: float
) -> None:
    x, weight, bias, _ = drawn((1, *shape), mean)
    # A mean in float32 is off by half of its last digit; E[x^2] - E[x]^2 would be off by ten.
    check(x, 32, weight, bias, None, False, tolerance=mean * 2**-23)


@pytest.mark.parametrize("shape", WAYS)
def test_a_constant_group_becomes_its_offset(shape: tuple[int, int, int]) -> None:
    _, weight, bias, _ = drawn((1, *shape))
    for value in (0.0, 0.1, -12345.678, 3e7):
        x = last(torch.full((1, *shape), value))
        y = group_norm(x, 32, weight, bias, EPS)
        torch.testing.assert_close(y, bias[:, None, None].expand_as(y), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", WAYS)
def test_pixels_of_very_unlike_means(shape: tuple[int, int, int]) -> None:
    x, weight, bias, condition = drawn((1, *shape))
    x[:, :, : shape[1] // 3] += 1000.0
    check(x, 32, weight, bias, condition, True)


@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so_in_its_group_and_nowhere_else(
    shape: tuple[int, int, int], value: float
) -> None:
    x, weight, bias, condition = drawn((2, *shape))
    plain = group_norm(x, 32, weight, bias, EPS, condition, silu=True)
    for pixel in (0, shape[1] - 1):
        broken = x.clone(memory_format=torch.preserve_format)
        broken[1, 5, pixel, pixel] = value
        y = group_norm(broken, 32, weight, bias, EPS, condition, silu=True)
        size = shape[0] // 32
        group = slice(5 // size * size, 5 // size * size + size)
        assert not y[1, group].isfinite().any()
        y[1, group] = plain[1, group]
        assert torch.equal(y, plain)


@pytest.mark.parametrize("shape", WAYS)
def test_a_row_is_the_same_bits_in_any_batch(shape: tuple[int, int, int]) -> None:
    x, weight, bias, condition = drawn((3, *shape), mean=3.0)
    expected = group_norm(x, 32, weight, bias, EPS, condition, silu=True)
    for order in ([2, 0, 1], [1]):
        moved = last(x[order])
        y = group_norm(moved, 32, weight, bias, EPS, condition[order], silu=True)
        assert torch.equal(y, expected[order])
    strange = last(torch.cat([x[1:2], 1e6 * x[:1]]))
    y = group_norm(strange, 32, weight, bias, EPS, condition[[1, 0]], silu=True)
    assert torch.equal(y[0], expected[1])


def test_an_empty_batch() -> None:
    x, weight, bias, _ = drawn((0, 64, 8, 8))
    assert group_norm(x, 32, weight, bias, EPS).shape == (0, 64, 8, 8)


def test_both_ways_to_split_an_image_give_the_same() -> None:
    x, weight, bias, condition = drawn((1, 64, 16, 16))
    held = group_norm(x, 32, weight, bias, EPS, condition, silu=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "HELD", 0)
        patch.setattr(kernel, "CHUNK", 64)
        assert Split.of(64, 256, 32).chunks == 4
        shared = group_norm(x, 32, weight, bias, EPS, condition, silu=True)
    torch.testing.assert_close(held, shared, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "times"), [("improved", [7.0, 90.0]), ("guided", [7.0])])
def test_a_unet_of_fused_norms_computes_the_same(
    family: str, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    unet, fused = unets(family)
    x, seen = torch.randn(2, unet.config.in_channels, 16, 16), []

    def counted(*args: Any) -> Tensor:
        seen.append(args[-1])
        return group_norm(*args)

    monkeypatch.setattr(fused_norm, "takes", lambda x: True)
    monkeypatch.setattr(fused_norm, "group_norm", counted)
    with torch.inference_mode():
        expected, found = unet(x, torch.tensor(times)), fused(x, torch.tensor(times))
    norms = [module for module in fused.modules() if isinstance(module, FusedNorm)]
    assert len(seen) == len(norms)
    assert sum(seen) == sum(norm.silu for norm in norms)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=2e-4)


def test_it_runs_in_the_interpreter() -> None:
    """And so none of the above ran elsewhere."""
    from diffsmooth.models.kernels.group_norm_programs import whole

    assert type(whole).__name__ == "InterpretedFunction"
