"""Classifiers from checkpoints."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.weights import (
    Checkpoint,
    check_kind,
    check_weights,
    load_weights,
)
from diffsmooth.models.classifiers.architectures import (
    Classifier,
    build_classifier,
    cifar_depth,
    own_input_layer,
)
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info
from diffsmooth.models.classifiers.input_layers import Resized, build_input_layer
from diffsmooth.models.words import SetName
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted


def load_classifier(
    path: Path | str,
    arch: str | None = None,
    input_layer: str | nn.Module | None = None,
    dataset: str | DatasetInfo = "cifar10",
    weights: SetName | None = None,
) -> nn.Sequential:
    """The classifier of a checkpoint, in eval mode.

    Args:
        path, weights: see `read_checkpoint`.
        arch, input_layer: instead of the file's, or where it does not name one (few but ours name
            an input layer).
        dataset: that of a file that does not say what it was trained on.

    Raises:
        UserError: see `read_checkpoint` and `classifier_of`.
    """
    info = get_dataset_info(dataset) if isinstance(dataset, str) else dataset
    return classifier_of(read_checkpoint(path, weights=weights), info, arch, input_layer)


def classifier_of(
    checkpoint: Checkpoint,
    info: DatasetInfo,
    arch: str | None = None,
    input_layer: str | nn.Module | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> nn.Sequential:
    """The classifier that a checkpoint holds, in eval mode.

    Args:
        info: facts of the dataset, for a file that does not say.
        arch, input_layer: instead of what the file says, or where it does not say.
        image_shape: (C, H, W) of the images: of another size than the file says, they are resized
            to that in front of the input layer (`Resized`).

    Raises:
        UserError: not a classifier; no architecture or input layer known; weights that do not fit.
    """
    metadata = checkpoint.metadata
    check_kind(checkpoint, "classifier")
    arch = arch or metadata.arch
    if not arch and not checkpoint.build:
        raise UserError(
            f"{checkpoint.path}: does not name its architecture: give it (--arch, arch=)"
        )
    layer = input_layer or told_input_layer(checkpoint, arch)
    if not layer:
        raise UserError(
            f"{checkpoint.path}: does not name its input layer: give it (--normalize, input_layer=)"
        )
    info = metadata.dataset_info or info
    if checkpoint.build is not None:
        first = build_input_layer(layer, info) if isinstance(layer, str) else layer
        model: nn.Sequential = whole_classifier(checkpoint, info.num_classes, first)
    else:
        classifier_outline(checkpoint, arch, info)
        model = build_classifier(arch, info.num_classes, layer, info)
        load_weights(model, checkpoint)
    size = info.image_shape[1:]
    if metadata.dataset_info and image_shape and image_shape[1:] != size:
        model = Classifier(Resized(model[0], size), model[1])
    return model.eval()


def told_input_layer(checkpoint: Checkpoint, arch: str) -> str:
    """The input layer that a file, or else its architecture's name, tells; "" where none does."""
    return checkpoint.metadata.input_layer or own_input_layer(arch)


def whole_classifier(checkpoint: Checkpoint, num_classes: int, layer: nn.Module) -> Classifier:
    """The network that comes as a whole with a checkpoint (`Checkpoint.build`), its own copy."""
    assert checkpoint.build is not None
    model = Classifier(layer, deepcopy(checkpoint.build(num_classes)))
    if checkpoint.state_dict:
        load_weights(model, checkpoint)
    return model


def classifier_outline(checkpoint: Checkpoint, arch: str, info: DatasetInfo) -> nn.Module:
    """The classifier's shapes without its memory; raises UserError unless the weights fit them.

    The weights say how large the network is: what a name claims beyond them is never built.
    """
    depth, tensors = cifar_depth(arch), len(checkpoint.state_dict)
    if depth is not None and depth > tensors:
        raise UserError(
            f"{checkpoint.path}: {arch} has {depth:,} layers, the file holds "
            f"{counted(tensors, 'tensor')}"
        )
    with torch.device("meta"):
        outline = build_classifier(arch, info.num_classes, "none", info)
    check_weights(outline, checkpoint)
    return outline


def load_pretrained(model: nn.Sequential, checkpoint: Checkpoint) -> None:
    """Loads the weights of a classifier of the same architecture, to go on from.

    A head for other classes stays as it is. The model is one of `build_classifier`.

    Raises:
        UserError: not a classifier, or weights that do not fit, but for the head.
    """
    check_kind(checkpoint, "classifier")
    own, weights = model.state_dict(), dict(checkpoint.state_dict)
    network: Any = model[1]
    named = getattr(network, "fc", None) or getattr(network, "classifier", None)
    heads = network.get_classifier() if hasattr(network, "get_classifier") else named
    heads = heads if isinstance(heads, tuple) else (heads,)  # distilled networks have two
    for name, module in model.named_modules():
        for key in (f"{name}.weight", f"{name}.bias"):
            if module in heads and key in weights and own[key].shape != weights[key].shape:
                weights[key] = own[key]
    load_weights(model, checkpoint._replace(state_dict=weights))
