"""Where a vote's time goes, by kinds of work: PyTorch's profiler, and names of kernels."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from diffsmooth.models.smoothing.noise import Votes
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import SourceName
from diffsmooth.pipeline.bench_process import KEY, seconds_of

PROFILED = 2  # batches

# The first that is found in a name tells. CUDA's kernels are known by their own names, a CPU's work
# by its operations'. Inductor names a fused kernel after all that was fused, so that a convolution
# in it is only the sum with its bias: its templates alone are products themselves.
KINDS = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        ("convolutions", r"^triton_tem_\w*conv"),
        ("matrix products and attention", r"^triton_tem_"),
        ("norms", r"norm|rowwise_?moments|ComputeFusedParams|welford"),
        ("elementwise", r"^(triton|graph)_\w*fused\w*_"
                        r"(add|sub|mul|div|relu|leaky|silu|gelu|sigmoid|exp|where|clamp|softmax)"),
        ("copies and casts", r"^(triton|graph)_|copy|memcpy|memset|CatArray|::cat$|::clone$|::to$"
                             r"|contiguous|nchwToNhwc|nhwcToNchw|transpose|reorder|::fill_$"
                             r"|::zero_$|::index$|::pad$|FillFunctor"),
        ("matrix products and attention", r"attention|flash|fmha|sdpa|softmax"),
        ("convolutions", r"conv|fprop|implicit_gemm|winograd|xmma_.*nhwc|cudnn.*nhwc"),
        ("matrix products and attention", r"gemm|gemv|nvjet|cublas|::(addmm|mm|bmm|baddbmm|linear"
                                          r"|mkldnn_linear|matmul)$|linear_pointwise|cutlass"),
        ("elementwise", r"elementwise|reduce_kernel|pointwise|::(add|sub|mul|div|relu|silu|gelu"
                        r"|sigmoid|exp|clamp|clamp_min|leaky_relu|neg|pow|sqrt|where|mean|sum|amax"
                        r"|argmax|isfinite|eq|ne|all|avg_pool2d|mkldnn_avg_pool\w*|upsample\w*)_?$"),
    )
)  # fmt: skip
REST, NOISE = "the rest", "noise"
ORDER = (
    "convolutions", "matrix products and attention", "norms", "copies and casts", "elementwise",
    NOISE, REST,
)  # fmt: skip


def kind_of(name: str) -> str:
    """The kind of work of a kernel, or of an operation on a CPU, by its name."""
    return next((kind for kind, pattern in KINDS if pattern.search(name)), REST)


@torch.inference_mode()
def milliseconds_by_kind(f: VoteFunction, word: SourceName, image: Tensor) -> dict[str, float]:
    """Milliseconds a vote that each kind of work takes on the device, in the order of `ORDER`.

    On a CPU noise is timed by the clock, on a CUDA device by what of it runs there.

    Args:
        f: without draws of its own; compiled already, where it is to be.
        word: of the noise's source.
        image: (C, H, W) in [0, 1], on the CPU.
    """
    source = noise_source(word, f.device)

    def noise() -> Tensor:
        votes = [Votes(KEY, 0, 0, f.batch)]
        return source.noisy(votes, [image], f.noise_level, f.batch).images.to(f.device)

    noisy, found = noise(), defaultdict[str, float](float)
    for name, milliseconds in _profiled(lambda: f.answer(noisy, lambda run: None), f.device):
        found[kind_of(name)] += milliseconds
    if f.device.type == "cuda":
        found[NOISE] = sum(milliseconds for _, milliseconds in _profiled(noise, f.device))
    else:
        found[NOISE] = 1e3 * seconds_of(noise, f.device)
    return {kind: found[kind] / f.batch for kind in ORDER}


def _profiled(work: Callable[[], object], device: torch.device) -> Iterator[tuple[str, float]]:
    """Names, and milliseconds a call, of what runs on the device; of the second call on."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    work()

    def calls() -> None:
        for _ in range(PROFILED):
            work()

    with profile(activities=activities) as watched:
        seconds_of(calls, device)
    rows: Any = watched.key_averages()
    for row in rows:
        if getattr(row, "is_user_annotation", False):  # spans what it surrounds
            continue
        if not on_gpu:
            yield row.key, row.self_cpu_time_total / PROFILED / 1e3
        elif row.device_type == torch.autograd.DeviceType.CUDA:
            yield row.key, row.self_device_time_total / PROFILED / 1e3
