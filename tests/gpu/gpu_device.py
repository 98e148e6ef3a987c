"""Where the tests marked gpu run: on a CUDA device; or on the CPU, where DIFFSMOOTH_GPU_TESTS=cpu.

The latter shows that the tests themselves work, and says nothing about a GPU.
"""

import os
from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import pick_device
from diffsmooth.pipeline.workloads import WORKLOADS

ON_CPU = os.environ.get("DIFFSMOOTH_GPU_TESTS") == "cpu"
ACCELERATOR = "cpu" if ON_CPU else "gpu"
needs_cuda = pytest.mark.skipif(ON_CPU, reason="means nothing on a CPU")


def device() -> torch.device:
    """The tests' device, its numerics fixed as commands fix them."""
    return pick_device(ACCELERATOR)


def voting(name: str, precision: str, batch: int, compiled: bool = False) -> VoteFunction:
    """A workload of the benchmark, prepared for votes."""
    f = WORKLOADS[name].loaded(batch, "plain", device())
    f.precision = precision
    prepare(f, compiled)
    return f


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that work has at once, but for those that were there before."""
    if not ON_CPU:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    results = watched.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
