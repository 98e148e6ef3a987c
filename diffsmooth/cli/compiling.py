"""Whether a run's networks are compiled."""

import torch

from diffsmooth.models.inference import can_compile, compile_pays, flops_a_vote
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
