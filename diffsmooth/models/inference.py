"""What makes the networks of a vote function fast, without a choice that depends on a timing."""

import ctypes
import math
import sys
import sysconfig
from pathlib import Path

import torch
from torch import nn

from diffsmooth.models.cifar_resnet import CifarResNet
from diffsmooth.models.fused import FusedConv, FusedResNet
from diffsmooth.models.precision import autocast
from diffsmooth.models.purifiers import OneShotPurifier
from diffsmooth.models.unet import Pointwise
from diffsmooth.models.vote_function import VoteFunction

# Layers that autocast runs in bf16, and that use their weights for nothing else. Exact types: a
# subclass may standardise its weights first, say, which autocast would leave to float32.
CAST = (nn.Conv1d, nn.Conv2d, nn.Linear, Pointwise, FusedConv)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h

# FLOPs of a run from which compiling pays: an estimate of two minutes to compile and a third of the
# time saved at 1e14 FLOP/s. On CPUs it never does: prepared networks are as fast without.
WORTH_COMPILING = {"cpu": math.inf, "cuda": 3e16}


@torch.no_grad()
def prepare(f: VoteFunction, compiled: bool = False) -> None:
    """Makes the networks of f ready for many votes, in place: call it once f is on its device.

    f stays one fixed function of each row, but for low bits not the same one as before. Its
    networks can then only vote: they train, and load weights, no more.

    Args:
        f: its U-Net and its classifier are changed.
        compiled: whether torch.compile fuses what lies between the convolutions; the first batch
            takes a minute or two then, or seconds if torch's cache on disk has the code.
    """
    smoothing, purifier = f.local_smoothing, f.purifier
    if f.device.type == "cpu":
        _keep_memory()
    for parent in list(smoothing.modules()):
        for name, child in parent.named_children():
            if type(child) is CifarResNet:
                fused = FusedResNet(child).eval().to(memory_format=torch.channels_last)
                setattr(parent, name, fused)
    if f.precision == "bf16":
        for module in f.modules():
            if type(module) in CAST:
                module.to(torch.bfloat16)
    if isinstance(purifier, OneShotPurifier):
        with autocast(f.precision, f.device.type):
            purifier.precompute_times(f.sigma)
    if compiled:
        # Tensor code only: the schedule's NumPy scalars would be compiled in, one by one.
        networks: list[nn.Module] = []
        if isinstance(purifier, OneShotPurifier):
            networks.append(purifier.unet)
        if not any(isinstance(module, FusedConv) and module.onednn for module in f.modules()):
            networks.append(smoothing)  # in the others, nothing is left to fuse
        mode = "reduce-overhead" if f.device.type == "cuda" else None
        for network in networks:
            network.compile(dynamic=False, mode=mode)


def _keep_memory() -> None:
    """Keeps the memory of freed tensors for the next ones, in the whole process.

    glibc returns large ones to the system, which then clears each page anew.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for parameter, value in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_THRESHOLD, 2**30)):
            mallopt(parameter, value)


def can_compile(device: torch.device) -> str:
    """Why torch.compile cannot work here, in words; "" where it can."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    header = Path(sysconfig.get_path("include"), "Python.h")
    if device.type not in WORTH_COMPILING:
        return f"not tried on {device.type}"
    if device.type == "cuda" and not has_triton():
        return "triton is not installed, or the GPU is too old for it"
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler (set CXX, or install g++)"
    return "" if header.is_file() else f"{header} is missing (install python3-dev)"


def compile_pays(flops_a_vote: float, votes: float, device_type: str) -> bool:
    """Whether a run is long enough to win back the time that compiling takes.

    By its work alone, never by a timing: the choice must be the same at each start of a run.

    Args:
        flops_a_vote: of one image through f, by torch.utils.flop_counter.
        votes: of the whole run, at most.
        device_type: "cpu" or "cuda".
    """
    return flops_a_vote * votes >= WORTH_COMPILING.get(device_type, math.inf)
