"""Classifiers of any make as modules from images to logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Within it a network is in eval mode; then each module is in its own, be it frozen."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def show_black(network: nn.Module, shape: tuple[int, int, int], what: str) -> Any:
    """What a network gives for one black image, in eval mode; it is left in the mode it was in.

    Args:
        network: (1, C, H, W) to anything.
        shape: (C, H, W).
        what: stands before the message, a file's or an architecture's name.

    Raises:
        UserError: the network's own code refuses the image.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), in_eval_mode(network):
            return network(torch.zeros(1, *shape, device=device))
    except UserError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        size = " x ".join(map(str, shape))
        raise UserError(
            f"{what}: cannot take images of {size} ({error}){format_hint(network)}"
        ) from error


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
