"""What `bench` measures: pairs of networks, with the images and the noise that they run on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.models import (
    Denoiser,
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
    build_denoiser,
    load_classifier,
    load_denoiser,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction

SIGMA = 0.5  # [0, 1] pixel units
SIGMA_LOCAL = 0.25
CLASSIFIER = Path("checkpoints/fashion_mnist_gaussian_0.25.pt")
COHEN_CLASSIFIER = Path("checkpoints/fashion_mnist_gaussian_0.50.pt")
DIFFUSION = Path("checkpoints/fashion_mnist_diffusion.pt")


class Setting(NamedTuple):
    """How the engine runs.

    Attributes:
        name: for the table.
        precision: float32 or bf16.
        prepared: whether the networks were prepared for many votes, as certify.py does.
        compiled: whether they were compiled, too.
    """

    name: str
    precision: str
    prepared: bool = True
    compiled: bool = False


@dataclass(frozen=True)
class Workload:
    """Networks to measure.

    Attributes:
        name: for the options.
        title: for the table.
        info: of the images.
        denoiser: makes the denoiser, None without one.
        classifier: makes the classifier.
        m: local copies.
    """

    name: str
    title: str
    info: DatasetInfo
    denoiser: Callable[[], Denoiser] | None
    classifier: Callable[[], nn.Module]
    m: int

    @property
    def sigma_local(self) -> float:
        return SIGMA_LOCAL if self.m > 1 else 0.0

    def smoothed(self, batch: int, setting: Setting, device: torch.device) -> VoteFunction:
        """What votes, in a setting; the same weights each time."""
        torch.manual_seed(0)
        local = LocalSmoothing(self.classifier(), self.m, self.sigma_local, self.info.image_shape)
        make = self.denoiser
        purifier = IdentityPurifier() if make is None else OneShotPurifier(make())
        model = VoteFunction(
            purifier, local, SIGMA, self.info.num_classes, batch, setting.precision, copy=False
        ).to(device)
        if setting.prepared:
            prepare(model, setting.compiled)
        return model


def _full_denoiser() -> Denoiser:
    denoiser = build_denoiser("improved-cifar10").eval()
    for parameter in denoiser.parameters():
        if not parameter.any():  # the fresh network's zeros would make its answers all alike
            nn.init.normal_(parameter, std=0.02)
    return denoiser


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "full", "CIFAR-10 size: U-Net of 52.5 M, ResNet-110, m = 5 (random weights)", CIFAR10,
            _full_denoiser, lambda: build_classifier("cifar_resnet110", 10), 5,
        ),
        Workload(
            "small", "shipped networks: U-Net of 1.2 M, ResNet-20, m = 5", FASHION_MNIST,
            lambda: load_denoiser(DIFFUSION), lambda: load_classifier(CLASSIFIER), 5,
        ),
        Workload(
            "cohen", "Cohen's method: the shipped ResNet-20 alone", FASHION_MNIST,
            None, lambda: load_classifier(COHEN_CLASSIFIER), 1,
        ),
    )
}  # fmt: skip
