"""Base classifiers: an input layer and a network, from an architecture's name."""

import re
from difflib import get_close_matches
from typing import Any

from torch import nn

from diffsmooth.models.classifiers.cifar_resnet import CifarResNet
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info
from diffsmooth.models.classifiers.input_layers import Resized, build_input_layer
from diffsmooth.shown_text import is_word, quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import imported, names_code

CIFAR_EXAMPLES = ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110")


def build_classifier(
    arch: str,
    num_classes: int,
    input_layer: str | nn.Module = "standard",
    dataset: str | DatasetInfo = "cifar10",
) -> nn.Sequential:
    """A classifier with fresh weights: `Sequential(input layer, network)`, keys from "1." on.

    A network that takes one size of images only gets others resized, inside the input layer.

    Args:
        arch: cifar_resnetD with D = 6n + 2 (cifar_resnet20, cifar_resnet110, ...), a timm name, or
            package.module:factory, which makes a network of the number of classes.
        num_classes: number of logits.
        input_layer: "standard", "center", "none", numbers (see `build_input_layer`), or a module.
        dataset: gives the input's channels, and the mean and std of the input layer.

    Raises:
        UserError: an unknown architecture, input layer or dataset.
    """
    info = get_dataset_info(dataset) if isinstance(dataset, str) else dataset
    layer = build_input_layer(input_layer, info) if isinstance(input_layer, str) else input_layer
    if not is_word(arch):  # looking for near ones takes long where it is long
        raise UserError(f"unknown architecture {quoted(arch)}")
    network, size = _build_network(arch, num_classes, info.image_shape[0])
    if size is not None and size != info.image_shape[1:]:
        layer = Resized(layer, size)
    return nn.Sequential(layer, network)


def _build_network(
    arch: str, num_classes: int, channels: int
) -> tuple[nn.Module, tuple[int, ...] | None]:
    """The network behind an input layer, and the one size (H, W) of images that it takes, if so."""
    if names_code(arch):
        return _foreign(arch, num_classes), None
    depth = cifar_depth(arch)
    if depth is not None:
        try:
            return CifarResNet(depth, num_classes, channels), None
        except ValueError as error:
            raise UserError(f"architecture {arch}: {error}") from error
    import timm  # takes seconds to import

    if not timm.is_model(arch):
        near = get_close_matches(arch, [*CIFAR_EXAMPLES, *timm.list_models()])
        raise UserError(
            f"unknown architecture {arch!r}: known are cifar_resnet<6n+2>, timm's and "
            "package.module:factory" + (f"; near are {', '.join(near)}" if near else "")
        )
    # timm's ResNets begin with zeros in the last batch norm of each block, torchvision's with ones,
    # as the published base classifiers did; else the two draw the same weights.
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if timm.models.is_model_in_modules(arch, "resnet"):
        options["zero_init_last"] = False
    network = timm.create_model(arch, **options)
    config = timm.get_pretrained_cfg(arch)
    return network, tuple(config.input_size[1:]) if config and config.fixed_input_size else None


def _foreign(arch: str, num_classes: int) -> nn.Module:
    factory = imported(arch)
    if not callable(factory):
        raise UserError(f"architecture {arch}: must be a factory, got {quoted(factory)}")
    network = factory(num_classes)
    if not isinstance(network, nn.Module):
        raise UserError(f"architecture {arch}: must give an nn.Module, got {type(network)}")
    return network


def cifar_depth(arch: str) -> int | None:
    """The D of cifar_resnetD; None for other names."""
    found = re.fullmatch(r"cifar_resnet([0-9]{1,9})", arch)
    return int(found.group(1)) if found else None


def pretrained_normalization(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that timm's own weights of an architecture were trained with, or None."""
    import timm

    if not timm.is_model(arch):
        return None
    config = timm.get_pretrained_cfg(arch)
    return None if config is None else (tuple(config.mean), tuple(config.std))
