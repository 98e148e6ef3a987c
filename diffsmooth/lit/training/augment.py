"""Random flips and crops of a whole batch, on its device, from a given generator."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image (B, C, H, W) left to right with probability 1/2."""
    flip = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shifts each image (B, C, H, W) by up to `padding` pixels either way, filling with zeros."""
    b, c, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    offsets = torch.randint(
        2 * padding + 1, (2, b, 1, 1, 1), device=images.device, generator=generator
    )
    rows = offsets[0] + torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = offsets[1] + torch.arange(width, device=images.device).view(1, 1, 1, -1)
    batch = torch.arange(b, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(c, device=images.device).view(1, -1, 1, 1)
    return padded[batch, channel, rows, columns]
