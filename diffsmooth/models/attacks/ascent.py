"""Gradient ascent without a bound."""

import math

import torch
from torch import Tensor, nn

from diffsmooth.models.attacks.target import Target, unit_directions


def ascent_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    step_length: float,
    steps: int,
    noise: Tensor | None = None,
    samples: int = 1,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Raises the loss of a smoothed classifier by normalised gradient steps, clamped to [0, 1].

    Not an attack of a given strength: it goes as far as `steps` times `step_length`.

    Args:
        step_length: l2 length of a step, > 0, in [0, 1] pixel units.
        model, images, labels, steps, noise, samples, generator: see `pgd_l2`.

    Returns:
        Images (B, C, H, W), in [0, 1].

    Raises:
        ValueError: step_length <= 0, steps < 1, or as `pgd_l2`.

    Source: SmoothMix, Jeong et al. 2021, equation 6, and the published code.
    """
    if not 0 < step_length < math.inf:
        raise ValueError(f"step_length must be > 0 and finite, got {step_length}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    target = Target(model, images, labels, noise, samples)
    delta = torch.zeros_like(images)
    for _ in range(steps):
        gradients, _ = target.gradient(delta)
        directions = unit_directions(gradients, generator)
        delta = (images + delta + step_length * directions).clamp(0, 1) - images
    return (images + delta).clamp(0, 1)
