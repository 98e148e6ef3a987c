"""Classifiers of any make as modules from images to logits."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from diffsmooth.stats.errors import UserError


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
