"""Our group norm without a GPU: how it splits the work, and through Triton's compiler for a GPU.

What it computes: interpreted_group_norm.py.
"""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.models.diffusion.presets import GROUPS
from diffsmooth.models.kernels import group_norm as kernel
from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.kernels.group_norm import Split, takes


@given(groups=st.integers(1, 64), size=st.integers(1, 200), pixels=st.integers(1, 2**20))
def test_a_split_covers_each_number_once(groups: int, size: int, pixels: int) -> None:
    split = Split.of(groups * size, pixels, groups)
    assert groups % split.groups == 0
    assert split.groups * size <= split.lanes
    for number in (split.lanes, split.rows):
        assert number & (number - 1) == 0
    chunk = split.tiles * split.rows
    assert (split.chunks - 1) * chunk < pixels <= split.chunks * chunk
    held = split.tiles == split.chunks == 1
    if split.lanes <= kernel.LANES:
        assert split.rows * split.lanes <= (kernel.HELD if held else kernel.TILE)
    assert split.chunks <= kernel.MOST_CHUNKS


# Channels and pixels of the U-Nets for CIFAR-10 and ImageNet: full tiles, masked ones, shared.
COMPILED = [(128, 1024), (384, 1024), (256, 65536)]


@pytest.mark.parametrize(
    ("capability", "number_format"), [(80, "fp32"), (90, "bf16"), (90, "fp16")]
)
def test_it_compiles_for_a_gpu(capability: int, number_format: str) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from diffsmooth.models.kernels import group_norm_programs as programs

    pointers = {"x": number_format, "y": number_format, "condition": number_format}
    pointers |= dict.fromkeys(("parts", "weight", "bias"), "fp32")
    for channels, pixels in COMPILED:
        split = Split.of(channels, pixels, GROUPS)
        used = split.groups * channels // GROUPS
        constants: dict[str, Any] = {
            "SIZE": channels // GROUPS, "USED": used, "LANES": split.lanes, "ROWS": split.rows,
            "FILM": True, "SILU": True, "FULL": (used, pixels) == (split.lanes, split.rows),
            "CHUNKS": 1 << (split.chunks - 1).bit_length(),
        }  # fmt: skip
        held = split.tiles == split.chunks == 1
        for program in [programs.whole] if held else [programs.moments, programs.apply]:
            signature = {}
            for name in program.arg_names:
                kind = f"*{pointers[name]}" if name in pointers else "i32"
                kind = "fp32" if name == "eps" else kind
                signature[name] = "constexpr" if name in constants else kind
            known = {name: value for name, value in constants.items() if name in signature}
            source = ASTSource(fn=program, signature=signature, constexprs=known)
            target = GPUTarget("cuda", capability, 32)
            assert triton.compile(source, target=target, options={"num_warps": 8}).asm["cubin"]


def test_it_takes_no_cpus_tensors() -> None:
    with torch.no_grad():
        assert not takes(torch.zeros(1, 32, 4, 4))
    assert lacking(torch.device("cpu")) == "they are of NVIDIA's GPUs, not of cpu"


def test_without_triton_nothing_asks_for_it() -> None:
    """CPU-only builds of torch, and Windows, have none."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from diffsmooth.models.diffusion.unet import FilmNorm\n"
        "from diffsmooth.models.smoothing.fused_norm import FusedNorm\n"
        "from diffsmooth.models.smoothing.inference import prepare\n"
        "with torch.no_grad(): print(FusedNorm(FilmNorm(2, 4), True)(torch.ones(1, 4, 2, 2)).sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "tensor(0.)\n", done.stderr
