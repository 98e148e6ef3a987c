"""The device of a command, and whether networks are compiled for it."""

import math

import torch

from diffsmooth.models.diffusion.unet import FilmNorm
from diffsmooth.models.kernels.availability import lacking, lacking_header
from diffsmooth.models.kernels.group_norm import REVISION
from diffsmooth.models.smoothing.precision import fix_numerics
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.work_of_a_batch import flops_a_vote
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

# FLOPs of a run from which compiling pays on one device: on an H100 it took 53 s, and made networks
# of CIFAR-10 size 2.5 times as fast (docs/performance.md). On CPUs it never does: prepared networks
# are as fast without.
WORTH_COMPILING = {"cpu": math.inf, "cuda": 7e15}


def pick_device(accelerator: str) -> torch.device:
    """The first device of a kind, for commands without a Lightning trainer, its numerics fixed.

    Args:
        accelerator: auto (a GPU where there is one), cpu, or gpu.

    Raises:
        UserError: another word, or no such device here.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise UserError(f"accelerator must be auto, cpu or gpu, got {accelerator!r}")
    fix_numerics()
    available = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not available:
        raise UserError(f"accelerator {accelerator}: torch {torch.__version__} finds no GPU here")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")


def choose_compile(wanted: bool | None, f: VoteFunction, device: torch.device, votes: int) -> bool:
    """What the user, or the run's first start, wanted; for None, whether the votes are worth it.

    `votes` are those of the run, at most: of any number of processes and shards the same, since
    compiled networks round differently, and the table is not to depend on how many share it.

    Raises:
        UserError: it is wanted and cannot be.
    """
    if wanted is None:
        # By the work alone, never by a timing: the choice must be the same at each start of a run.
        worth = WORTH_COMPILING.get(device.type, math.inf)
        if worth == math.inf:
            return False
        flops = flops_a_vote(f)
        return flops is not None and flops * votes >= worth and not can_compile(device)
    if not wanted:
        return False
    reason = can_compile(device)
    if reason:
        raise UserError(f"compile: not possible here: {reason}")
    return True


def choose_norms(wanted: str | None, f: VoteFunction, device: torch.device, compiled: bool) -> str:
    """What computes the U-Net's group norms: the revision of our kernel, or "", PyTorch.

    Args:
        wanted: what the run's first start had; None at that: then ours, where there are such norms,
            and it can run; not where they are compiled, since inductor has kernels of its own.

    Raises:
        UserError: what is wanted cannot be had here.
    """
    reason = lacking(device)
    if wanted is None:
        has_some = any(type(module) is FilmNorm for module in f.modules())
        return REVISION if has_some and not compiled and not reason else ""
    if wanted not in ("", REVISION):
        raise UserError(f"the run's group norms are by {quoted(wanted)}, here it is {REVISION!r}")
    if wanted and reason:
        raise UserError(f"the run's group norms are by a kernel that cannot run here: {reason}")
    return wanted


def can_compile(device: torch.device) -> str:
    """Why torch.compile cannot work here, in words; "" where it can."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device.type not in WORTH_COMPILING:
        return f"not tried on {device.type}"
    if device.type == "cuda" and not has_triton():
        return "triton is not installed, or the GPU is too old for it"
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler (set CXX, or install g++)"
    return lacking_header()
