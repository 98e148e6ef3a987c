"""What comes of a row are the same bits at any place in a batch, and beside any other rows."""

import pytest
import torch
from gpu_device import ON_CPU, device, voting

from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.probe_batch import Rows, outputs_of, probe_rows
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import can_compile

pytestmark = pytest.mark.gpu
BATCH = 4 if ON_CPU else 64
CASES = [("cohen" if ON_CPU else "small", precision, compiled)
         for compiled in (False, True) for precision in ("float32", "bf16")]  # fmt: skip
LARGE = [] if ON_CPU else [("full", precision, False) for precision in ("float32", "bf16")]


@torch.inference_mode()
def bits(f: VoteFunction, rows: Rows) -> list[torch.Tensor]:
    return [output.cpu() for output in outputs_of(f, rows)]


@pytest.mark.parametrize(("name", "precision", "compiled"), CASES + LARGE)
def test_rows_are_bit_identical_under_rolls_and_neighbours(
    name: str, precision: str, compiled: bool
) -> None:
    if compiled and (reason := can_compile(device())):
        pytest.skip(reason)
    f = voting(name, precision, BATCH, compiled)
    rows, strangers = probe_rows(f)
    expected = bits(f, rows)
    assert all(torch.equal(*pair) for pair in zip(expected, bits(f, rows), strict=True))
    for shift in (1, BATCH // 2 + 1):
        order = torch.arange(BATCH).roll(shift)
        for one, other in zip(expected, bits(f, rows.take(order)), strict=True):
            assert torch.equal(one[order], other), f"rolled by {shift}"
    both = rows.beside(strangers)
    for kept in (slice(0, None, 2), slice(1, None, 2)):
        among = BATCH + torch.arange(BATCH)
        among[kept] = torch.arange(BATCH)[kept]
        for one, other in zip(expected, bits(f, both.take(among)), strict=True):
            assert torch.equal(one[kept], other[kept]), "beside strangers"
    assert ensure_fixed(f).exact
