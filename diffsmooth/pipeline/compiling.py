"""Whether a run's networks are compiled."""

import math
from typing import Literal

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from diffsmooth.models.smoothing.inference import WORTH_COMPILING, can_compile, compile_pays
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError


def choose_compile(
    wanted: bool | Literal["auto"],
    stored: bool | None,
    f: VoteFunction,
    device: torch.device,
    votes: int,
) -> bool:
    """The user's word, or what the run was begun with, or whether the votes ahead are worth it.

    Args:
        wanted: True, False or "auto".
        stored: of a run that goes on.
        f: what votes.
        device: where it will run.
        votes: of each process, at most.

    Raises:
        UserError: it is wanted and cannot be.
    """
    if wanted == "auto" and stored is None:
        pays = WORTH_COMPILING.get(device.type, math.inf) < math.inf and compile_pays(
            flops_a_vote(f), votes, device.type
        )
        return pays and not can_compile(device)
    if not (stored if wanted == "auto" else wanted):
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
        noisy = torch.zeros(1, *f.image_shape, device=f.device)
        draws = noisy.expand(f.purifier.draws, *noisy.shape) if f.purifier.draws else None
        f(noisy, draws)
    return f.reverse_runs * counter.get_total_flops()
