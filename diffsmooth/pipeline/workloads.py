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
    SmoothedClassifier,
    build_classifier,
    build_unet,
    load_classifier,
    load_unet,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.pipeline.bench_specification import WORKLOADS as TITLES

SIGMA = 0.5  # [0, 1] pixel units
SIGMA_LOCAL = 0.25
CLASSIFIER = Path("checkpoints/fashion_mnist_gaussian_0.25.pt")
COHEN_CLASSIFIER = Path("checkpoints/fashion_mnist_gaussian_0.50.pt")
DIFFUSION = Path("checkpoints/fashion_mnist_diffusion.pt")


class Mode(NamedTuple):
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


MODES = {
    mode.name: mode
    for mode in (
        Mode("plain", "float32", prepared=False),
        Mode("float32", "float32"),
        Mode("bf16", "bf16"),
        Mode("compiled", "bf16", compiled=True),
    )
}


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

    def smoothed(self, batch: int, mode: Mode, device: torch.device) -> SmoothedClassifier:
        """The smoothed classifier in a mode; the same weights each time."""
        torch.manual_seed(0)
        local = LocalSmoothing(self.classifier(), self.m, self.sigma_local, self.info.image_shape)
        purifier: IdentityPurifier | OneShotPurifier = IdentityPurifier()
        if self.unet is not None:
            purifier = OneShotPurifier(self.unet(), get_preset(self.preset).schedule)
        model = SmoothedClassifier(
            purifier, local, SIGMA, self.info.num_classes, batch, mode.precision, copy=False
        ).to(device)
        if mode.prepared:
            prepare(model, mode.compiled)
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
            "full", TITLES["full"], CIFAR10,
            "improved-cifar10", _full_unet, lambda: build_classifier("cifar_resnet110", 10), 5,
        ),
        Workload(
            "small", TITLES["small"], FASHION_MNIST,
            "small-gray32", lambda: load_unet(DIFFUSION), lambda: load_classifier(CLASSIFIER), 5,
        ),
        Workload(
            "cohen", TITLES["cohen"], FASHION_MNIST,
            "", None, lambda: load_classifier(COHEN_CLASSIFIER), 1,
        ),
    )
}  # fmt: skip
