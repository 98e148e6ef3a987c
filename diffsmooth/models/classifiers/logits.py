"""Classifiers of any make as modules from images to logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffsmooth.stats.errors import UserError


def format_hint(*networks: nn.Module) -> str:
    """What to do about networks of another number format than their images; "" if there is none."""
    formats = {str(p.dtype) for n in networks for p in n.parameters() if p.is_floating_point()}
    others = ", ".join(sorted(formats - {str(torch.float32)}))
    cure = f"; weights are {others}, images torch.float32: make them so by .float()"
    return cure if others else ""


class Logits(nn.Module):
    """A network whose outputs are logits, or hold them as `.logits`.

    Args:
        network: images (B, C, H, W) to either; a module, or any other callable.

    Raises:
        UserError: it cannot be called.
    """

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        if not callable(network):
            raise UserError(f"a classifier must be callable, got a {type(network).__name__}")
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        output = self.network(x)
        return getattr(output, "logits", output)
