"""Numbers that are not finite, or soon will not be: refused where they first are, by name.

Not a number is no vote. But what computes may hide one: oneDNN's ReLU makes 0 of NaN, each ReLU
makes 0 of -infinity, a clamp 1 of infinity. Weights are therefore checked before they compute, and
layers are watched once: then what arises in votes is of a network whose numbers are far from the
largest that there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from diffsmooth.stats.errors import UserError

# Float32 and bf16 end at 3.4e38. No trained network comes near.
LARGEST_OUTPUT = 1e20

# Layers that add up products: where numbers grow.
WATCHED = (_ConvNd, _NormBase, nn.Linear, nn.GroupNorm, nn.LayerNorm)


def check_finite_weights(network: nn.Module, what: str) -> None:
    """Raises UserError for weights that no network can compute with, by the first one's name.

    Args:
        network: its parameters must be finite; so must its buffers, but for masks of -infinity.
            Variances of batch norms must not be negative.
        what: says where it is from, a file's name for instance.
    """
    for module_name, module in network.named_modules():
        is_norm = isinstance(module, _NormBase)
        place = f"{what}: {module_name}." if module_name else f"{what}: "
        for key, weights in module.named_parameters(recurse=False):
            check_finite(weights, place + key)
        for key, buffer in module.named_buffers(recurse=False):
            name = place + key
            if not is_norm and buffer.is_floating_point():
                buffer = buffer.float().clamp(min=0)
            check_finite(buffer, name)
            if is_norm and key == "running_var" and (buffer < 0).any():
                raise UserError(f"{name} has a negative variance, {float(buffer.min()):g}")


def check_finite(weights: Tensor, name: str) -> None:
    """Raises UserError unless all of some numbers are finite, in bf16, too."""
    weights = weights.detach()
    if not (weights.is_floating_point() or weights.is_complex()):
        return
    weights = torch.view_as_real(weights) if weights.is_complex() else weights
    broken = ~weights.to(torch.bfloat16).isfinite()
    if broken.any():
        raise UserError(
            f"{name} has {int(broken.sum())} of {weights.numel()} numbers that are not finite, or "
            f"are not in bf16, such as {float(weights[broken][0]):.6g}"
        )


@contextmanager
def watched_layers(network: nn.Module, what: str) -> Iterator[None]:
    """Raises UserError in a forward pass where a layer's output is not finite, or nearly so.

    Args:
        network: whose convolutions, linear layers and norms are watched.
        what: stands before the layer's name.
    """

    def look(name: str, _: nn.Module, __: object, output: object) -> None:
        if not isinstance(output, Tensor) or not output.numel():
            return
        largest = float(output.abs().max())
        if not largest <= LARGEST_OUTPUT:  # NaN, too
            raise UserError(
                f"{what}: {name} gives {largest:g}, where it was tried out: numbers must "
                f"be finite, and at most {LARGEST_OUTPUT:g}"
            )

    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, WATCHED)]
    handles = [layer.register_forward_hook(partial(look, name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
