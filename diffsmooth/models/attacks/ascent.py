"""Gradient ascent, without a bound or in a ball."""

import math

import torch
from torch import Tensor, nn

from diffsmooth.models.attacks.target import Target, damped_directions, project
from diffsmooth.stats.bounds import count_of


def ascent_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    step_length: float,
    steps: int,
    noise: Tensor | None = None,
    samples: int = 1,
    *,
    epsilon: float | None = None,
    damping: float = 1e-8,
) -> Tensor:
    """Raises the loss of a smoothed classifier by normalised gradient steps, clamped to [0, 1].

    Unlike `pgd_l2`, it takes no step where the gradient is zero, short steps where it is tiny, and
    projects before it clamps.

    Args:
        step_length: l2 length of a step, > 0, in [0, 1] pixel units.
        epsilon: l2 budget, > 0, in [0, 1] pixel units. None: no bound; it goes as far as `steps`
            times `step_length`.
        damping: added to a gradient's norm before the division by it, > 0.
        model, images, labels, steps, noise, samples: see `pgd_l2`.

    Returns:
        Images (B, C, H, W), in [0, 1].

    Raises:
        ValueError: step_length, epsilon or damping <= 0, steps < 1, or as `pgd_l2`.

    Source: SmoothMix, Jeong et al. 2021, equation 6, and the published code; with a budget, the
    attack of the published code of Jeong & Shin 2020.
    """
    bounds = () if epsilon is None else (("epsilon", epsilon),)
    for name, value in (("step_length", step_length), *bounds, ("damping", damping)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be > 0 and finite, got {value}")
    count_of("steps", steps)
    target = Target(model, images, labels, noise, samples)
    delta = torch.zeros_like(images)
    for _ in range(steps):
        gradients, _ = target.gradient(delta)
        delta = delta + step_length * damped_directions(gradients, damping)
        if epsilon is not None:
            delta = project(delta, epsilon)
        delta = (images + delta).clamp(0, 1) - images
    return (images + delta).clamp(0, 1)
