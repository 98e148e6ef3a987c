"""What `bench` measures: pairs of networks, with the images and the noise that they run on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    OneShotPurifier,
    build_classifier,
    build_denoiser,
    load_classifier,
    load_denoiser,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.device import choose_norms
from diffsmooth.shipped import located

SIGMA = 0.5  # [0, 1] pixel units
SIGMA_LOCAL = 0.25
CLASSIFIER = located("pkg:fashion_mnist_gaussian_0.25.pt")
COHEN_CLASSIFIER = located("pkg:fashion_mnist_gaussian_0.50.pt")
DIFFUSION = located("pkg:fashion_mnist_diffusion.pt")


class Mode(NamedTuple):
    """How the engine runs.

    Attributes:
        precision: float32 or bf16.
        prepared: whether the networks were prepared for many votes, as certify.py does.
        compiled: whether they were compiled, too.
    """

    precision: str
    prepared: bool = True
    compiled: bool = False


MODES = {
    "plain": Mode("float32", prepared=False),
    "float32": Mode("float32"),
    "bf16": Mode("bf16"),
    "compiled": Mode("bf16", compiled=True),
}


class Workload(NamedTuple):
    """Networks to measure, by what makes them, and their images; without a denoiser it is None."""

    info: DatasetInfo
    denoiser: Callable[[], Denoiser] | None
    classifier: Callable[[], nn.Module]
    m: int

    def f(self, batch: int, setting: str, device: torch.device) -> VoteFunction:
        """What votes, in one of the `MODES`; the same weights each time."""
        torch.manual_seed(0)
        mode = MODES[setting]
        level = SIGMA_LOCAL if self.m > 1 else 0.0
        local = LocalSmoothing(self.classifier(), self.m, level, self.info.image_shape)
        make = self.denoiser
        purifier = IdentityPurifier() if make is None else OneShotPurifier(make())
        f = VoteFunction(
            purifier, local, SIGMA, self.info.num_classes, batch, mode.precision, copy=False
        ).to(device)
        if mode.prepared:
            norms = choose_norms(None, f, device, mode.compiled)
            prepare(f, mode.compiled, bool(norms))
        return f


def _full_denoiser() -> Denoiser:
    denoiser = build_denoiser("improved-cifar10").eval()
    for parameter in denoiser.parameters():
        if not parameter.any():  # the fresh network's zeros would make its answers all alike
            nn.init.normal_(parameter, std=0.02)
    return denoiser


WORKLOADS = {
    "full": Workload(CIFAR10, _full_denoiser, lambda: build_classifier("cifar_resnet110", 10), 5),
    "small": Workload(
        FASHION_MNIST, lambda: load_denoiser(DIFFUSION), lambda: load_classifier(CLASSIFIER), 5
    ),
    "cohen": Workload(FASHION_MNIST, None, lambda: load_classifier(COHEN_CLASSIFIER), 1),
}
