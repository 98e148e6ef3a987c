"""The attack that decouples direction and norm."""

import math

import torch
from torch import Tensor, nn

from diffsmooth.models.attacks.target import (
    Target,
    check_budget,
    l2_norms,
    project,
    unit_directions,
)


def ddn_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    noise: Tensor | None = None,
    samples: int = 1,
    *,
    init_norm: float | None = None,
    gamma: float = 0.05,
    levels: int = 256,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Looks for the smallest perturbation that changes a smoothed classifier's prediction.

    The direction follows the gradient; the norm shrinks while the point is adversarial (the most
    frequent prediction over the noise is wrong) and grows while it is not.

    Args:
        model, images, labels, noise, samples, start, generator: as in `pgd_l2`.
        epsilon: l2 budget, > 0, in [0, 1] pixel units: what is found is projected to it.
        steps: number of steps, at least 1.
        init_norm: norm of the first perturbation, > 0, in [0, 1] pixel units; None: epsilon.
        gamma: relative change of the norm in a step, in (0, 1).
        levels: values a pixel can take in [0, 1], at least 2; 256 for 8-bit images.

    Returns:
        Adversarial images (B, C, H, W), in [0, 1]: `images` themselves where no perturbation was
        found. As published, the projected perturbation is rounded to the levels once more, so that
        its norm may exceed epsilon: by sqrt(CHW) / (2 (levels - 1)) at most, far less as a rule.

    Raises:
        ValueError: as `pgd_l2`, and for init_norm <= 0, gamma outside (0, 1), levels < 2.

    Source: Rony et al. 2019, algorithm 1; SmoothAdv_DDN, Salman et al. 2019.
    """
    check_budget(epsilon, steps)
    target = Target(model, images, labels, noise, samples)
    init_norm = epsilon if init_norm is None else init_norm
    if not 0 < init_norm < math.inf:
        raise ValueError(f"init_norm must be > 0 and finite, got {init_norm}")
    if not 0 < gamma < 1:
        raise ValueError(f"gamma must be in (0, 1), got {gamma}")
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    farthest = l2_norms(torch.maximum(images, 1 - images))  # of the corners of [0, 1]
    norm = torch.full_like(farthest, init_norm)
    best = torch.zeros_like(images)
    delta = best if start is None else start
    best_norm = farthest
    for i in range(steps):
        gradients, logits = target.gradient(delta)
        prediction = logits.argmax(dim=2).mode(dim=1).values
        is_adversarial = (prediction != labels).view(-1, 1, 1, 1)
        present_norm = l2_norms(delta)
        found = is_adversarial & (present_norm < best_norm)
        best = torch.where(found, delta, best)
        best_norm = torch.where(found, present_norm, best_norm)

        length = 0.01 + 0.99 * (1 + math.cos(math.pi * i / steps)) / 2
        delta = delta + length * unit_directions(gradients, generator)
        norm = torch.minimum(norm * torch.where(is_adversarial, 1 - gamma, 1 + gamma), farthest)
        delta = delta * (norm / l2_norms(delta).clamp_min(1e-12))
        delta = _quantize(images + delta, levels).clamp(0, 1) - images
    return (images + _quantize(project(best, epsilon), levels)).clamp(0, 1)


def _quantize(x: Tensor, levels: int) -> Tensor:
    return (x * (levels - 1)).round() / (levels - 1)
