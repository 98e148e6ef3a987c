"""The U-Net's group norms for inference, each with the SiLU behind it as one operation on CUDA."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.diffusion.unet import Conditioned, FilmNorm, SiLU
from diffsmooth.models.kernels.group_norm import group_norm, takes
from diffsmooth.models.smoothing.unchanged import is_unchanged


class FusedNorm(FilmNorm):
    """A `FilmNorm`, and a SiLU where `silu`: by our kernel where that takes x, else as they were.

    So where a gradient is wanted, in float64, in other memory, and on a CPU.
    """

    def __init__(self, norm: FilmNorm, silu: bool) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias, self.silu = norm.weight, norm.bias, silu
        self.train(norm.training)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if takes(x):
            affine = self.weight, self.bias, self.eps
            return group_norm(x, self.num_groups, *affine, condition, self.silu)
        h = super().forward(x, condition)
        return F.silu(h, inplace=not torch.is_grad_enabled()) if self.silu else h


def fuse_norms(network: nn.Module) -> None:
    """Makes each `FilmNorm` a `FusedNorm`, in place; a SiLU that it takes over is the identity.

    The names of all other layers stay; so do those that somebody has hung a hook on.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FilmNorm) and is_unchanged(child, FilmNorm):
                follows = any(is_unchanged(parent, one) for one in (nn.Sequential, Conditioned))
                silu = follows and _take_silu(cast(nn.Sequential, parent), int(name) + 1)
                setattr(parent, name, FusedNorm(child, silu))


def _take_silu(layers: nn.Sequential, place: int) -> bool:
    """Whether a SiLU comes next, alone or first in a sequence; it is taken out."""
    layer = layers[place] if place < len(layers) else None
    if isinstance(layer, nn.Sequential) and is_unchanged(layer, nn.Sequential):
        return _take_silu(layer, 0)
    if layer is None or not is_unchanged(layer, SiLU):
        return False
    layers[place] = nn.Identity().train(layer.training)
    return True
