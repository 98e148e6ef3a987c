"""Whether a run's networks are compiled."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffsmooth.models.inference import can_compile, compile_pays
from diffsmooth.models.vote_function import VoteFunction


def choose_compile(
    wanted: str, stored: bool | None, f: VoteFunction, device: torch.device, votes: int
) -> bool:
    """The user's word, or what the run was begun with, or whether the votes ahead are worth it.

    Args:
        wanted: "true", "false" or "auto".
        stored: of a run that goes on.
        f: what votes.
        device: where it will run.
        votes: of each process, at most.

    Raises:
        ValueError: it is wanted and cannot be.
    """
    if wanted == "auto" and stored is None:
        return not can_compile(device) and compile_pays(flops_a_vote(f), votes, device.type)
    if wanted == "false" or (wanted == "auto" and not stored):
        return False
    reason = can_compile(device)
    if reason:
        raise ValueError(f"compile: not possible here: {reason}")
    return True


@torch.inference_mode()
def flops_a_vote(f: VoteFunction) -> int:
    """Floating-point operations of one vote: of all its reverse runs and local copies."""
    noisy = torch.zeros(1, *f.local_smoothing.noise.shape[1:], device=f.device)
    draws = noisy.expand(f.purifier.draws, *noisy.shape) if f.purifier.draws else None
    with FlopCounterMode(display=False) as counter:
        f.answer(noisy, lambda run: draws)
    return counter.get_total_flops()
