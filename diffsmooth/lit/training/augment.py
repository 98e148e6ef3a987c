"""Random flips and crops of a whole batch, on its device, from a given generator.

All views of an image are changed alike.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


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
