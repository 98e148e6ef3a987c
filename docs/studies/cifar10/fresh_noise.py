"""DiffSmooth's classifier with fresh local noise for each vote, for the study's ablation.

    PYTHONPATH=docs/studies/cifar10 python certify.py IMAGES.npz fresh_noise:classifier SIGMA OUT \
        --diffusion FILE --m 1 --sigma_local 0 ...

DiffSmooth draws its m local noises once, for all votes of all images. Here they are drawn from the
digest of the purified image, which no two votes share. So f is still one fixed function of the noisy
image, as certificates need, and local noise averages out over an image's votes.
"""

import hashlib

import torch
from torch import Tensor, nn

import diffsmooth
from diffsmooth.models.smoothing.local_smoothing import draw_local_noise

M, SIGMA_LOCAL = 5, 0.25


class FreshNoise(nn.Module):
    """The logarithm of a classifier's mean softmax over M copies of an image, each its own noise."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, K) of images (B, C, H, W) in [0, 1]."""
        noise = torch.stack([_noise_of(image) for image in images])
        copies = (images[:, None] + SIGMA_LOCAL * noise).flatten(0, 1)
        logits = self.classifier(copies.contiguous(memory_format=torch.channels_last))
        return logits.softmax(dim=-1).unflatten(0, (-1, M)).mean(dim=1).log()


def _noise_of(image: Tensor) -> Tensor:
    # Of the image's 8 bits: its last ones may depend on the batch that it is in.
    levels = (255 * image).round().to(torch.int16).contiguous().numpy()
    seed = int.from_bytes(hashlib.sha256(levels).digest()[:7], "big")
    return draw_local_noise(M, tuple(image.shape), seed)


def classifier() -> FreshNoise:
    """The study's ResNet-20 of sigma' 0.25."""
    return FreshNoise(diffsmooth.load_classifier("checkpoints/cifar10_resnet20_gaussian_0.25.pt"))
