"""What `bench` measures: pairs of networks, with the images and the noise that they run on."""

import contextlib
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
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info
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
    """Networks to measure.

    Attributes:
        dataset: whose images they take.
        denoiser: makes it; None without one.
        classifier: makes it.
        m: local copies.
        random: whether the weights are: votes tell nothing, and big networks are made on their
            device.
    """

    dataset: str
    denoiser: Callable[[], Denoiser] | None
    classifier: Callable[[], nn.Module]
    m: int
    random: bool = False

    @property
    def info(self) -> DatasetInfo:
        return get_dataset_info(self.dataset)

    def f(self, batch: int, setting: str, device: torch.device) -> VoteFunction:
        """What votes, in one of the `MODES`; the same weights each time on a kind of device."""
        f, mode = self.loaded(batch, setting, device), MODES[setting]
        if mode.prepared:
            norms = choose_norms(None, f, device, mode.compiled)
            prepare(f, mode.compiled, bool(norms))
        return f

    def loaded(self, batch: int, setting: str, device: torch.device) -> VoteFunction:
        """As `f`, its networks not yet prepared, whatever the mode."""
        torch.manual_seed(0)
        info, level = self.info, SIGMA_LOCAL if self.m > 1 else 0.0
        with device if self.random else contextlib.nullcontext():
            classifier = self.classifier()
            denoiser = self.denoiser() if self.denoiser else None
        local = LocalSmoothing(classifier, self.m, level, info.image_shape)
        purifier = IdentityPurifier() if denoiser is None else OneShotPurifier(denoiser)
        return VoteFunction(
            purifier, local, SIGMA, info.num_classes, batch, MODES[setting].precision, copy=False
        ).to(device)


def _random_denoiser(preset: str) -> Denoiser:
    denoiser = build_denoiser(preset).eval()
    for parameter in denoiser.parameters():
        if not parameter.any():  # the fresh network's zeros would make its answers all alike
            nn.init.normal_(parameter, std=0.02)
    return denoiser


def _resnet110() -> nn.Module:
    return build_classifier("cifar_resnet110", 10)


def _beit_large() -> nn.Module:
    return build_classifier("beit_large_patch16_224", 1000, dataset="imagenet")


WORKLOADS = {
    "full": Workload(
        "cifar10", lambda: _random_denoiser("improved-cifar10"), _resnet110, 5, random=True
    ),
    "small": Workload(
        "fashion_mnist", lambda: load_denoiser(DIFFUSION), lambda: load_classifier(CLASSIFIER), 5
    ),
    "cohen": Workload("fashion_mnist", None, lambda: load_classifier(COHEN_CLASSIFIER), 1),
    "resnet110": Workload("cifar10", None, _resnet110, 1, random=True),
    "imagenet": Workload(
        "imagenet", lambda: _random_denoiser("guided-imagenet"), _beit_large, 5, random=True
    ),
}
