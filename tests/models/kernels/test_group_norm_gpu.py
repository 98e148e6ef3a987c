"""Our group norm on a GPU, beside PyTorch's in float64 and beside the plain network."""

import copy
from collections.abc import Iterator

import pytest
import torch
from fused_unets import unets
from torch import Tensor

from diffsmooth.models.diffusion.unet import FilmNorm
from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.kernels.group_norm import group_norm, takes
from diffsmooth.models.smoothing import fused_norm
from diffsmooth.models.smoothing.precision import Numerics, numerics_of
from diffsmooth.pipeline.self_test import SMALL_UNETS

pytestmark = pytest.mark.gpu
EPS = 1e-5
# Relative to the largest number: rounding once, to the last of 24, 8 and 11 digits.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# (C, H, W): held in one program, with and without masks; shared by several.
SHAPES = [
    (128, 32, 32), (384, 32, 32), (512, 16, 16), (256, 4, 4), (96, 7, 5), (32, 32, 32),
    (256, 64, 64), (1024, 32, 32), (256, 256, 256), (192, 225, 223),
]  # fmt: skip


@pytest.fixture(autouse=True)
def can_run() -> Iterator[None]:
    reason = lacking(torch.device("cuda"))
    if reason:
        pytest.skip(reason)
    with numerics_of(Numerics(False, False, deterministic=True, timed_choice=False)):
        yield


def drawn(
    rows: int, shape: tuple[int, int, int], number_format: torch.dtype
) -> tuple[Tensor, FilmNorm, Tensor]:
    """x, a norm with live weights, and a condition for each row."""
    torch.manual_seed(0)
    x = (2 * torch.randn(rows, *shape, device="cuda") + 1).to(number_format)
    norm = FilmNorm(32, shape[0], EPS).cuda()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    told = torch.randn(rows, 2 * shape[0], device="cuda").to(number_format)
    return x.contiguous(memory_format=torch.channels_last), norm, told


@torch.no_grad()
@pytest.mark.parametrize("number_format", TOLERANCE, ids=str)
@pytest.mark.parametrize("film", ["none", "shared", "each"])
@pytest.mark.parametrize("silu", [False, True])
def test_it_is_the_plain_norm(number_format: torch.dtype, film: str, silu: bool) -> None:
    for shape in SHAPES:
        x, norm, condition = drawn(3, shape, number_format)
        told = {"none": None, "shared": condition[:1], "each": condition}[film]
        assert takes(x)
        y = group_norm(x, 32, norm.weight, norm.bias, EPS, told, silu)
        assert y.dtype == number_format
        assert y.is_contiguous(memory_format=torch.channels_last)
        exact = copy.deepcopy(norm).double()
        expected = exact(x.double(), None if told is None else told.double())
        expected = torch.nn.functional.silu(expected) if silu else expected
        scale = expected.abs().max()
        torch.testing.assert_close(
            y.double() / scale, expected / scale, rtol=0, atol=TOLERANCE[number_format]
        )


@torch.no_grad()
@pytest.mark.parametrize("number_format", TOLERANCE, ids=str)
def test_a_row_is_the_same_bits_in_any_batch(number_format: torch.dtype) -> None:
    for shape in SHAPES[:8]:
        x, norm, told = drawn(9, shape, number_format)
        affine = norm.weight, norm.bias, EPS
        expected = group_norm(x, 32, *affine, told, True)
        for _ in range(3):
            assert torch.equal(group_norm(x, 32, *affine, told, True), expected)
        for order in (torch.arange(9).roll(4), torch.tensor([5]), torch.tensor([8, 8, 0])):
            moved = x[order].contiguous(memory_format=torch.channels_last)
            assert torch.equal(group_norm(moved, 32, *affine, told[order], True), expected[order])
        strange = 1000 * torch.randn_like(x)
        strange[4] = x[2]
        y = group_norm(strange, 32, *affine, told[[2] * 9], True)
        assert torch.equal(y[4], expected[2])


@torch.no_grad()
def test_more_numbers_than_int32_counts() -> None:
    shape, rows = (256, 128, 128), 520
    if torch.cuda.mem_get_info()[0] < 12e9:
        pytest.skip("too little memory is free")
    norm = FilmNorm(32, shape[0], EPS).cuda()
    size, how = (rows, *shape), torch.channels_last
    x = torch.empty(size, device="cuda", dtype=torch.bfloat16, memory_format=how).zero_()
    x[-1] = torch.randn(shape, device="cuda").to(torch.bfloat16)
    assert x.numel() > 2**31
    last = x[-1:].contiguous(memory_format=torch.channels_last)
    alone, beside = (group_norm(each, 32, norm.weight, norm.bias, EPS) for each in (last, x))
    assert torch.equal(beside[-1:], alone)


@pytest.mark.parametrize("family", SMALL_UNETS)
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("times", [[7.0], [7.0, 90.0, 7.0]])
def test_a_unet_of_fused_norms_computes_the_same(
    family: str, number_format: torch.dtype, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    unet, fused = unets(family)
    unet, fused, calls = unet.cuda(), fused.cuda(), []

    def counted(*args: object) -> Tensor:
        calls.append(args)
        return group_norm(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fused_norm, "group_norm", counted)
    x, t = torch.randn(3, 3, 32, 32, device="cuda"), torch.tensor(times, device="cuda")
    bf16 = number_format == torch.bfloat16
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        expected, found = unet(x, t), fused(x, t)
    assert len(calls) == sum(isinstance(module, FilmNorm) for module in fused.modules())
    scale = expected.float().abs().max()
    # The golden weights amplify rounding, see `UNET_TOLERANCE` of the self-test.
    torch.testing.assert_close(
        found.float() / scale, expected.float() / scale, rtol=0, atol=0.1 if bf16 else 2e-4
    )
    x.requires_grad_()
    fused(x, t).sum().backward()  # the plain code
    assert x.grad is not None
    assert len(calls) == sum(isinstance(module, FilmNorm) for module in fused.modules())
