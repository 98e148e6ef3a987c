"""What `bench` measures: pairs of networks, with the images and the noise that they run on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
    build_unet,
    load_classifier,
    load_unet,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.diffusion.unet import UNet
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
        preset: of the U-Net, "" without one.
        unet: makes the U-Net, None without one.
        classifier: makes the classifier.
        m: local copies.
    """

    name: str
    title: str
    info: DatasetInfo
    preset: str
    unet: Callable[[], UNet] | None
    classifier: Callable[[], nn.Module]
    m: int

    @property
    def sigma_local(self) -> float:
        return SIGMA_LOCAL if self.m > 1 else 0.0

    def smoothed(self, batch: int, setting: Setting, device: torch.device) -> VoteFunction:
        """What votes, in a setting; the same weights each time."""
        torch.manual_seed(0)
        local = LocalSmoothing(self.classifier(), self.m, self.sigma_local, self.info.image_shape)
        purifier: IdentityPurifier | OneShotPurifier = IdentityPurifier()
        if self.unet is not None:
            purifier = OneShotPurifier(self.unet(), get_preset(self.preset).schedule)
        model = VoteFunction(
            purifier, local, SIGMA, self.info.num_classes, batch, setting.precision, copy=False
        ).to(device)
        if setting.prepared:
            prepare(model, setting.compiled)
        return model


def _full_unet() -> UNet:
    unet = build_unet("improved-cifar10").eval()
    for parameter in unet.parameters():
        if not parameter.any():  # the fresh network's zeros would make its answers all alike
            nn.init.normal_(parameter, std=0.02)
    return unet


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "full", "CIFAR-10 size: U-Net of 52.5 M, ResNet-110, m = 5 (random weights)", CIFAR10,
            "improved-cifar10", _full_unet, lambda: build_classifier("cifar_resnet110", 10), 5,
        ),
        Workload(
            "small", "shipped networks: U-Net of 1.2 M, ResNet-20, m = 5", FASHION_MNIST,
            "small-gray32", lambda: load_unet(DIFFUSION), lambda: load_classifier(CLASSIFIER), 5,
        ),
        Workload(
            "cohen", "Cohen's method: the shipped ResNet-20 alone", FASHION_MNIST,
            "", None, lambda: load_classifier(COHEN_CLASSIFIER), 1,
        ),
    )
}  # fmt: skip
