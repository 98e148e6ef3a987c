"""Gaussian augmentation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from diffsmooth.lit.training.classifier import ClassifierTraining


class GaussianTraining(ClassifierTraining):
    """Cross-entropy on x + sigma * eps, eps ~ N(0, I). Source: Cohen et al. 2019, section 3.3."""

    def training_loss(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        logits = self.classifier(images + self.noise(images, generator))
        return F.cross_entropy(logits, labels), logits
