"""Where networks run, and whether they are compiled for it."""

import math

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from diffsmooth.models.smoothing.inference import WORTH_COMPILING, can_compile, compile_pays
from diffsmooth.models.smoothing.precision import fix_numerics
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError


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
    """What is wanted, or whether the votes ahead are worth it.

    Args:
        wanted: by the user, or by the run's first start; None leaves it open.
        f: what votes.
        device: where it will run.
        votes: of each process, at most.

    Raises:
        UserError: it is wanted and cannot be.
    """
    if wanted is None:
        pays = WORTH_COMPILING.get(device.type, math.inf) < math.inf and compile_pays(
            flops_a_vote(f), votes, device.type
        )
        return pays and not can_compile(device)
    if not wanted:
        return False
    reason = can_compile(device)
    if reason:
        raise UserError(f"compile: not possible here: {reason}")
    return True


@torch.inference_mode()
def flops_a_vote(f: VoteFunction) -> int:
    """Floating-point operations of one vote: of all its reverse runs and local copies.

    Nothing is computed: the shapes alone go through the networks.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        noisy = torch.zeros(1, *f.local_smoothing.noise.shape[1:], device=f.device)
        draws = noisy.expand(f.purifier.draws, *noisy.shape) if f.purifier.draws else None
        f.confidence(noisy, draws)
    return f.purifier.runs * counter.get_total_flops()
