"""Stability training."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffsmooth.lit.ranges import at_least
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses


class StabilityTraining(ClassifierTraining):
    """Cross-entropy on the clean image, plus the noisy answer's cross-entropy to the clean one.

    loss = CE(f(x), y) + weight * H(f(x), f(x + sigma eps)), f being the softmax. The gradient goes
    through both arguments of H, as in the published code.

    Args:
        weight: what the second term counts (lambda), >= 0.
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: weight < 0; see `ClassifierTraining`.

    Source: Li, Chen, Wang, Carin 2019, section 4 (stability training with noise); the setting of
    Jeong & Shin 2020.
    """

    def __init__(self, weight: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(0, weight=weight)

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        clean = self.classifier(views[:, 0]).float()
        noisy = self.classifier(self.noisy_copies(views, 1, generator)).float()
        change = F.cross_entropy(noisy, clean.softmax(dim=1), reduction="none")
        each = F.cross_entropy(clean, labels, reduction="none") + self.hparams.weight * change
        return Losses(each, noisy)
