"""Our kernels are compiled for GPUs that are not here: to machine code, as on the first call."""

from typing import Any

import pytest

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
