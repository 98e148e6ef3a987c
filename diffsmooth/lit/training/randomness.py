"""The random streams of training, one a (seed, rank, step), and the flips and crops from them.

Under DDP the ranks share one global stream, so that its noise would be the same on each rank. A
stream that depends on the step alone, and not on what was drawn before, makes a resumed run exact.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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


def shuffle_views(views: Tensor, generator: torch.Generator) -> Tensor:
    """Puts the views of each image (B, V, C, H, W) into a random order."""
    b, v = views.shape[:2]
    if v == 1:
        return views
    order = torch.rand(b, v, device=views.device, generator=generator).argsort(dim=1)
    return views[torch.arange(b, device=views.device)[:, None], order]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image (B, ..., H, W), all its views, left to right with probability 1/2."""
    flip = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(flip.view(-1, *(1,) * (images.ndim - 1)), images.flip(-1), images)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shifts each image (B, ..., H, W), all its views, by up to `padding` pixels, adding zeros."""
    b, (height, width), device = len(images), images.shape[-2:], images.device
    padded = F.pad(images, (padding,) * 4).flatten(1, -3)
    offsets = torch.randint(2 * padding + 1, (2, b, 1, 1, 1), device=device, generator=generator)
    rows = offsets[0] + torch.arange(height, device=device).view(1, 1, -1, 1)
    columns = offsets[1] + torch.arange(width, device=device).view(1, 1, 1, -1)
    batch = torch.arange(b, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(padded.shape[1], device=device).view(1, -1, 1, 1)
    return padded[batch, channel, rows, columns].view(images.shape)
