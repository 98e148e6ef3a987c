"""Consistency regularisation."""

import math
from typing import Any

import torch
from torch import Tensor

from diffsmooth.lit.ranges import at_least
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses, ramp
from diffsmooth.models.attacks import ascent_l2
from diffsmooth.stats.errors import UserError


class ConsistencyTraining(ClassifierTraining):
    """Gaussian augmentation whose m noisy answers are drawn to their mean.

    loss = mean_i CE(f(x + sigma eps_i), y) + weight * mean_i KL(F || f(x + sigma eps_i))
    + entropy_weight * H(F), F being the mean of the m softmax answers.

    Where the data module purifies, the copies are of different purified draws of the image, so that
    the answers agree across the purifier's noise, too.

    With epsilon, x is an adversarial image of the smoothed classifier F: the attack, in eval mode,
    sees the m noise vectors that the loss then has.

    The published code takes m optimiser steps for a loader's batch of B, each on B / m images with
    m noise vectors each: B rows. Here a step is a loader's batch: set its batch size to B / m for
    the same updates.

    Args:
        m: noisy copies an image, at least 2.
        weight: what the KL divergence counts (lambda), >= 0.
        entropy_weight: what the mean's entropy counts (eta), >= 0.
        epsilon: l2 budget of the attack, > 0, in [0, 1] pixel units; None: no attack. One
            perturbation belongs to one image: not with several purified draws.
        steps: the attack's steps, at least 1, of length 2 epsilon / steps.
        warmup_epochs: over which epsilon grows linearly, >= 0.
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: an argument out of range; see `ClassifierTraining`.

    Source: Jeong & Shin 2020, equations 7 and 8, and the published code: of the attack,
    SmoothAdv_PGD in smoothing-consistency, code/train_consistency.py.
    """

    def __init__(
        self,
        m: int = 2,
        weight: float = 10.0,
        entropy_weight: float = 0.5,
        epsilon: float | None = None,
        steps: int = 4,
        warmup_epochs: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(2, m=m)
        at_least(0, weight=weight, entropy_weight=entropy_weight, warmup_epochs=warmup_epochs)
        at_least(1, steps=steps)
        if epsilon is not None and not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon must be > 0 and finite, or null, got {epsilon}")

    def check_views(self, count: int) -> None:
        epsilon = self.hparams.epsilon
        if epsilon is not None and count > 1:
            raise UserError(
                f"epsilon {epsilon} attacks one image, but there are {count} purified draws "
                "of each: set data.purified's draws to 1, or leave one of the two out"
            )

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        if self.hparams.epsilon is None:
            copies = self.noisy_copies(views, self.hparams.m, generator)
        else:
            copies = self._attacked_copies(views, labels, self.hparams.epsilon, generator)
        logits = self.classifier(copies).float()
        logits = logits.unflatten(0, (-1, self.hparams.m))  # (B, m, K)
        log_p = logits.log_softmax(dim=2)
        fit = -log_p[torch.arange(len(labels), device=labels.device), :, labels].mean(dim=1)
        spread, entropy = consistency(log_p)
        each = fit + self.hparams.weight * spread + self.hparams.entropy_weight * entropy
        return Losses(each, logits[:, 0])

    def _attacked_copies(
        self, views: Tensor, labels: Tensor, epsilon: float, generator: torch.Generator
    ) -> Tensor:
        """As `noisy_copies`, of adversarial images."""
        self.check_views(views.shape[1])
        images, m = views[:, 0], self.hparams.m
        noise = self.noise(images.repeat_interleave(m, dim=0), generator)  # (B * m, C, H, W)
        epsilon *= ramp(self.current_epoch, self.hparams.warmup_epochs)
        # The published loss of the attack is a mean over the images, and so are its gradients, to
        # whose norms it adds 1e-8.
        damping = 1e-8 * len(images)
        step_length = 2 * epsilon / self.hparams.steps
        with self.attacked_network() as network:
            adversarial = ascent_l2(
                network, images, labels, step_length, self.hparams.steps, noise, m,
                epsilon=epsilon, damping=damping,
            )  # fmt: skip
        return adversarial.repeat_interleave(m, dim=0) + noise


def consistency(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """mean_i KL(F || p_i) and H(F), each (B,), of log p (B, m, K), F being the mean of the p_i."""
    # In logarithms throughout: where all p_i underflow to 0, the gradient must not be 0 / 0.
    log_mean = log_p.logsumexp(dim=1, keepdim=True) - math.log(log_p.shape[1])
    mean = log_mean.exp()
    spread = (mean * (log_mean - log_p)).sum(dim=2).mean(dim=1)
    return spread, -(mean * log_mean).sum(dim=(1, 2))
