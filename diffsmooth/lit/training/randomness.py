"""Random generators for training: one stream a (seed, rank, step).

Under DDP the ranks share one global stream, so that its noise would be the same on each rank. A
stream that depends on the step alone, and not on what was drawn before, makes a resumed run exact.
"""

import numpy as np
import torch

# They keep these streams apart from those of the training steps.
DROPOUT = 1_000_000_009
PICTURES = 1_000_000_021


@torch.compiler.disable
def step_generator(
    device: torch.device, seed: int, rank: int, step: int, purpose: int = 0
) -> torch.Generator:
    """The generator on `device` of one step on one rank."""
    return torch.Generator(device).manual_seed(step_seed(seed, rank, step, purpose))


@torch.compiler.disable  # NumPy's integers are not torch's
def step_seed(seed: int, rank: int, step: int, purpose: int = 0) -> int:
    """The seed of that generator."""
    (word,) = np.random.SeedSequence((seed, rank, step, purpose)).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))
