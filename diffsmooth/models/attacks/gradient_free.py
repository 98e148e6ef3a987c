"""The attack that needs no gradients."""

import torch
from torch import Tensor, nn

from diffsmooth.models.attacks.target import Target, ascend, check_budget, unit_directions


@torch.no_grad()
def gradient_free_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    noise: Tensor | None = None,
    samples: int = 2,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Lowers a smoothed classifier's confidence in the label, knowing its values alone.

    By Stein's lemma the gradient of E p_y(x + noise) is E [p_y(x + noise) noise] / sigma^2, so the
    mean of -p_y * noise is a direction of ascent of the loss. The steps are those of `pgd_l2`.

    Args:
        model, images, labels, epsilon, steps, generator: as in `pgd_l2`.
        noise: (B * samples, C, H, W), as in `pgd_l2`, but not None.
        samples: noise vectors an image, at least 2: the direction of -p_y times a single one is the
            same whatever the model answers. (The published code takes gradients there.)

    Returns:
        Adversarial images (B, C, H, W), in [0, 1], within l2 distance epsilon of `images`.

    Raises:
        ValueError: as `pgd_l2`, and for no noise or samples < 2.

    Source: Salman et al. 2019, the published code.
    """
    check_budget(epsilon, steps)
    target = Target(model, images, labels, noise, samples)
    if noise is None:
        raise ValueError("noise must be given: the attack's directions are sums of it")
    if samples < 2:
        raise ValueError(
            f"samples must be at least 2, got {samples}: with one noise vector the direction does "
            "not depend on the model"
        )
    draws = noise.unflatten(0, (-1, samples))
    index = labels[:, None, None].expand(-1, samples, 1)
    delta = torch.zeros_like(images)
    for _ in range(steps):
        p_y = target.logits(delta).softmax(dim=2).gather(2, index)  # (B, samples, 1)
        ascent = -(p_y[..., None, None] * draws).mean(dim=1)
        delta = ascend(images, delta, unit_directions(ascent, generator), epsilon, steps)
    return (images + delta).clamp(0, 1)
