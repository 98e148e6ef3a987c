"""Random generators for training: one stream a (seed, rank, step).

Under DDP the ranks share one global stream, so that its noise would be the same on each rank. A
stream that depends on the step alone, and not on what was drawn before, makes a resumed run exact.
"""

import numpy as np
import torch

VALIDATION = 1_000_000_007  # keeps validation's streams apart from those of the training steps


def step_generator(
    device: torch.device, seed: int, rank: int, step: int, purpose: int = 0
) -> torch.Generator:
    """The generator on `device` of one step on one rank."""
    (word,) = np.random.SeedSequence((seed, rank, step, purpose)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))
