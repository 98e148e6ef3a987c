"""Consistency regularisation."""

import math
from typing import Any

import torch
from torch import Tensor

from diffsmooth.lit.training.classifier import ClassifierTraining, Losses


class ConsistencyTraining(ClassifierTraining):
    """Gaussian augmentation whose m noisy answers are drawn to their mean.

    loss = mean_i CE(f(x + sigma eps_i), y) + weight * mean_i KL(F || f(x + sigma eps_i))
    + entropy_weight * H(F), F being the mean of the m softmax answers.

    Where the data module purifies, the copies are of different purified draws of the image, so that
    the answers agree across the purifier's noise, too.

    Args:
        m: noisy copies an image, at least 2.
        weight: of the KL divergence (lambda), >= 0.
        entropy_weight: of the mean's entropy (eta), >= 0.
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: an argument out of range; see `ClassifierTraining`.

    Source: Jeong & Shin 2020, equations 7 and 8, and the published code.
    """

    def __init__(
        self, m: int = 2, weight: float = 10.0, entropy_weight: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if m < 2:
            raise ValueError(f"m must be at least 2, got {m}")
        for name, value in (("weight", weight), ("entropy_weight", entropy_weight)):
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        self._m = m
        self._weight = weight
        self._entropy_weight = entropy_weight

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        logits = self.classifier(self.noisy_copies(views, self._m, generator)).float()
        logits = logits.unflatten(0, (-1, self._m))  # (B, m, K)
        log_p = logits.log_softmax(dim=2)
        fit = -log_p[torch.arange(len(labels), device=labels.device), :, labels].mean(dim=1)
        spread, entropy = consistency(log_p)
        each = fit + self._weight * spread + self._entropy_weight * entropy
        return Losses(each, logits[:, 0])


def consistency(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """mean_i KL(F || p_i) and H(F), each (B,), of log p (B, m, K), F being the mean of the p_i."""
    # In logarithms throughout: where all p_i underflow to 0, the gradient must not be 0 / 0.
    log_mean = log_p.logsumexp(dim=1, keepdim=True) - math.log(log_p.shape[1])
    mean = log_mean.exp()
    spread = (mean * (log_mean - log_p)).sum(dim=2).mean(dim=1)
    return spread, -(mean * log_mean).sum(dim=(1, 2))
