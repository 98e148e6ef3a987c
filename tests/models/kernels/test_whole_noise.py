"""Our kernels are compiled for GPUs that are not here: to machine code, as on the first call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton comes with torch for CUDA")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from diffsmooth.models.kernels import whole_noise

NOISE = {
    "out": "*fp32", "void": "*u8", "streams": "*i64", "sources": "*i64", "grey": "*fp32",
    "floors": "*i64", "offset": "i32", "size": "i32", "last": "i32",
}  # fmt: skip


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("kernel", "signature", "constants"),
    [(whole_noise._fill, NOISE, {"STEPS": 12, "BLOCK": whole_noise.BLOCK})],
    ids=["whole_noise"],
)
def test_a_kernel_compiles(
    kernel: Any, signature: dict[str, str], constants: dict[str, Any], capability: int
) -> None:
    signature = signature | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(compiled.asm["cubin"]) > 1000


def test_the_program_starts_on_the_device_of_what_it_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that draws ahead has GPU 0 as its current one, whichever the networks are on."""
    current: list[Tensor] = []
    began = []

    @contextmanager
    def device_of(tensor: Tensor) -> Iterator[None]:
        current.append(tensor)
        yield
        current.pop()

    class Program:
        def __getitem__(self, grid: object) -> Any:
            return lambda out, *_, **__: began.append([out is one for one in current])

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(whole_noise, "_fill", Program())
    one = torch.zeros(1, dtype=torch.int64)
    out, void = torch.zeros(1, 4), torch.zeros(1, dtype=torch.bool)
    whole_noise.fill_noisy(out, void, one.expand(1, 4), one, torch.zeros(1, 4), torch.zeros(8))
    assert began == [[True]]
