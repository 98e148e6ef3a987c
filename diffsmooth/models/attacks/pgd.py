"""Projected gradient descent."""

import torch
from torch import Tensor, nn

from diffsmooth.models.attacks.target import Target, ascend, check_budget, unit_directions


def pgd_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    noise: Tensor | None = None,
    samples: int = 1,
    *,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Raises the loss of a smoothed classifier by projected gradient ascent from the images.

    The loss is -log of the mean softmax over the noise; each step has length 2 epsilon / steps.
    Where a gradient is zero, the step is 2 epsilon / steps times a standard normal draw.

    Args:
        model: (B, C, H, W) to logits (B, K), in eval mode; neither its mode nor its parameters'
            gradients are touched.
        images: (B, C, H, W), in [0, 1].
        labels: true classes, int64 (B,).
        epsilon: l2 budget, > 0, in [0, 1] pixel units.
        steps: number of steps, at least 1.
        noise: (B * samples, C, H, W), image-major, already scaled to sigma, in [0, 1] pixel units;
            None attacks the model without noise.
        samples: noise vectors an image (m_test, m_train), at least 1.
        start: perturbation (B, C, H, W) to begin at, inside the ball and with images that stay in
            [0, 1]; None: none.
        generator: draws steps where a gradient is zero; None takes the global stream.

    Returns:
        Adversarial images (B, C, H, W), in [0, 1], within l2 distance epsilon of `images`.

    Raises:
        ValueError: epsilon <= 0, steps < 1, samples < 1, images outside [0, 1], wrong shapes.

    Source: SmoothAdv_PGD, Salman et al. 2019, section 2, and the published code.
    """
    check_budget(epsilon, steps)
    target = Target(model, images, labels, noise, samples)
    delta = torch.zeros_like(images) if start is None else start
    for _ in range(steps):
        gradients, _ = target.gradient(delta)
        delta = ascend(images, delta, unit_directions(gradients, generator), epsilon, steps)
    return (images + delta).clamp(0, 1)
