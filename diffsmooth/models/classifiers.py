"""Base classifiers: an input layer and a network, from an architecture's name."""

import re

from torch import nn

from diffsmooth.models.cifar_resnet import CifarResNet
from diffsmooth.models.dataset_info import DatasetInfo, get_dataset_info
from diffsmooth.models.input_layers import build_input_layer


def build_classifier(
    arch: str,
    num_classes: int,
    input_layer: str | nn.Module = "standard",
    dataset: str | DatasetInfo = "cifar10",
) -> nn.Sequential:
    """A classifier with fresh weights: `Sequential(input layer, network)`, keys from "1." on.

    Args:
        arch: cifar_resnetD with D = 6n + 2 (cifar_resnet20, cifar_resnet110, ...), or a timm name.
        num_classes: number of logits.
        input_layer: "standard", "center", "none", numbers (see `build_input_layer`), or a module.
        dataset: gives the input's channels, and the mean and std of the input layer.

    Raises:
        ValueError: an unknown architecture, input layer or dataset.
    """
    info = get_dataset_info(dataset) if isinstance(dataset, str) else dataset
    layer = build_input_layer(input_layer, info) if isinstance(input_layer, str) else input_layer
    return nn.Sequential(layer, _build_network(arch, num_classes, info.image_shape[0]))


def _build_network(arch: str, num_classes: int, channels: int) -> nn.Module:
    cifar = re.fullmatch(r"cifar_resnet(\d+)", arch)
    if cifar:
        return CifarResNet(int(cifar.group(1)), num_classes, channels)
    import timm  # takes seconds to import

    if not timm.is_model(arch):
        raise ValueError(f"unknown architecture {arch!r}: known are cifar_resnet<6n+2> and timm's")
    return timm.create_model(arch, num_classes=num_classes, in_chans=channels)
