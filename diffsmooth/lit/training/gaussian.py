"""Gaussian augmentation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from diffsmooth.lit.training.classifier import ClassifierTraining, Losses


class GaussianTraining(ClassifierTraining):
    """Cross-entropy on x + sigma * eps, eps ~ N(0, I). Source: Cohen et al. 2019, section 3.3."""

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        logits = self.classifier(self.noisy_copies(views, 1, generator))
        return Losses(F.cross_entropy(logits, labels, reduction="none"), logits)
