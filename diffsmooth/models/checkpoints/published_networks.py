"""The networks that other people's code builds: under which names, behind which input layer.

A published file does not say its input layer: whoever reads it puts one in front. So a network that
was trained behind another one would be loaded there without a word, and answer wrongly.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffsmooth.models.checkpoints.weights import Checkpoint, misfits
from diffsmooth.models.classifiers.architectures import build_classifier
from diffsmooth.models.classifiers.dataset_info import (
    CIFAR10,
    DatasetInfo,
    get_dataset_info,
    misplaced,
    wordnet_ids,
)
from diffsmooth.models.classifiers.input_layers import Normalize, build_input_layer
from diffsmooth.models.words import Code
from diffsmooth.shown_text import quoted, word
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted

SALMAN, DIFFSMOOTH = "Hadisalman/smoothing-adversarial", "javyduck/DiffSmooth"
ALL = ("locuslab/smoothing", SALMAN, DIFFSMOOTH, "jh-jeong/smoothing-consistency")

# Downsampled ImageNet's labels are ILSVRC2012_ID - 1, not the order of the folders' names: utils.py
# of PatrykChrabaszcz/Imagenet32_Scripts (map_clsloc.txt), ImageNetDS in smoothing-adversarial.
FIRST_OF_32 = ["n02119789", "n02100735", "n02110185"]


class PublishedNetwork(NamedTuple):
    """A network as published code builds it.

    Attributes:
        name: what that code calls it.
        arch: what we call it.
        dataset: what that code calls the data set, which says images, classes and constants.
        layer: the input layer that it puts in front.
        prefix: what its keys have before the network's own.
        readers: repositories on GitHub that have it.
    """

    name: str
    arch: str
    dataset: str
    layer: str
    prefix: str
    readers: tuple[str, ...]

    @property
    def info(self) -> DatasetInfo:
        if self.dataset != "imagenet32":
            return get_dataset_info(self.dataset)
        numbers = tuple(map(str, range(1000)))  # their order is not ImageNet's, see FIRST_OF_32
        return CIFAR10._replace(name="imagenet32", class_names=numbers)

    @property
    def constants(self) -> tuple[list[float], list[float]]:
        """Means and standard deviations of its input layer, one a channel."""
        return _constants(build_input_layer(self.layer, self.info))


# Sources: code/architectures.py and code/datasets.py of locuslab/smoothing, smoothing-adversarial
# and smoothing-consistency, architectures.py and datasets.py of DiffSmooth; model.py and main.py of
# RuntianZ/macer. All of these build torchvision's ResNet-50 inside DataParallel, the CIFAR ResNets
# and BEiT without. smoothing-adversarial had InputCenterLayer in its first version, has
# NormalizeLayer now, with the other in a comment, and no InputCenterLayer for imagenet32.
NETWORKS: dict[Code, tuple[PublishedNetwork, ...]] = {
    "cohen": (
        PublishedNetwork("cifar_resnet20", "cifar_resnet20", "cifar10", "standard", "1.", ALL),
        PublishedNetwork("cifar_resnet110", "cifar_resnet110", "cifar10", "standard", "1.", ALL),
        PublishedNetwork(
            "imagenet32_resnet110", "cifar_resnet110", "imagenet32", "standard", "1.", (SALMAN,)
        ),
        PublishedNetwork("resnet50", "resnet50", "imagenet", "standard", "1.module.", ALL),
        PublishedNetwork(
            "beit_large_patch16_224", "beit_large_patch16_224", "imagenet", "0.5,0.5", "1.",
            (DIFFSMOOTH,),
        ),
    ),
    "smoothadv-center": (
        PublishedNetwork("cifar_resnet20", "cifar_resnet20", "cifar10", "center", "1.", (SALMAN,)),
        PublishedNetwork(
            "cifar_resnet110", "cifar_resnet110", "cifar10", "center", "1.", (SALMAN,)
        ),
        PublishedNetwork("resnet50", "resnet50", "imagenet", "center", "1.module.", (SALMAN,)),
    ),
    "macer": (
        PublishedNetwork(
            "resnet110", "cifar_resnet110", "cifar10", "none", "", ("RuntianZ/macer",)
        ),
    ),
}  # fmt: skip


def published_network(checkpoint: Checkpoint, code: Code) -> tuple[PublishedNetwork, nn.Sequential]:
    """The published network that is a checkpoint's, and its shapes under our names.

    Raises:
        UserError: there is none; the message says what is in its way.
    """
    path, metadata, weights = checkpoint.path, checkpoint.metadata, checkpoint.state_dict
    known = [network for network in NETWORKS[code] if network.arch == metadata.arch]
    if not known:
        names = ", ".join(dict.fromkeys(network.arch for network in NETWORKS[code]))
        raise UserError(
            f"{path}: the code of --plain --code {code} knows no "
            f"{word(metadata.arch) if metadata.arch else 'unnamed architecture'}: known are "
            f"{names} (a file without --plain has arch and state_dict, too)"
        )
    for network in known:
        with torch.device("meta"):  # no memory
            classes = network.info.num_classes
            outline = build_classifier(network.arch, classes, "none", network.info)
        problems = misfits(outline, weights)
        if not problems:
            break
    else:
        network = known[0]
    theirs = f"{network.name} of {network.readers[0]}"
    own, wanted = metadata.image_shape, list(network.info.image_shape)
    if own and own != wanted:
        raise UserError(f"{path}: takes images of {_by(own)}, and {theirs} takes {_by(wanted)}")
    if problems:
        head = weights["1.fc.weight"].shape[:1] if "1.fc.weight" in weights else ()
        classes = len(metadata.class_names) or sum(head)
        what = f"weights do not fit: {problems[0]}"
        if classes and classes not in [n.info.num_classes for n in known]:
            what = f"has {counted(classes, 'class')}"
        has = " or ".join(f"{n.info.num_classes:,} ({n.name})" for n in known)
        raise UserError(f"{path}: {what}; {theirs} takes {_by(wanted)} and has {has} classes")
    _check_order(path, metadata.class_names, network, theirs)
    return network, outline


def _check_order(path: Path, names: list[str], network: PublishedNetwork, theirs: str) -> None:
    """Raises UserError for classes that have other numbers there, as far as their names tell."""
    if network.dataset == "imagenet32":
        numbered = set(names) <= set(network.info.class_names)
        if not numbered and names[: len(FIRST_OF_32)] != FIRST_OF_32:
            raise UserError(
                f"{path}: its classes are in another order than those of {theirs}, which are "
                f"{', '.join(FIRST_OF_32)}, ..."
            )
        return
    known = [list(network.info.class_names)]
    if network.dataset == "imagenet":
        known.append(wordnet_ids())
    for there in known:
        label = misplaced(names, there)
        if label is not None:
            raise UserError(
                f"{path}: its classes are in another order than those of {theirs}: label {label} "
                f"is {word(names[label])}, there it is label {there.index(names[label])}"
            )


def check_layer(checkpoint: Checkpoint, network: PublishedNetwork, code: Code, given: str) -> None:
    """Raises UserError for a network that was trained behind another layer than it would be put."""
    path, metadata = checkpoint.path, checkpoint.metadata
    if given and metadata.input_layer and given != metadata.input_layer:
        raise UserError(
            f"{path}: says that its input layer is {metadata.input_layer}, not {quoted(given)}"
        )
    layer = metadata.input_layer or given
    if not layer:
        raise UserError(
            f"{path}: does not say its input layer: give it by --normalize (doctor measures which "
            "fits best)"
        )
    own = _constants(build_input_layer(layer, metadata.dataset_info or network.info))
    if own == network.constants:
        return
    hint = ""
    for other, networks in NETWORKS.items():
        if any(n.arch == network.arch and n.constants == own for n in networks):
            with_layer = " with get_input_center_layer" if other == "smoothadv-center" else ""
            hint = f"; --code {other} writes for {networks[0].readers[0]}{with_layer}"
    raise UserError(
        f"{path}: was trained behind input layer {layer}, and {network.name} of "
        f"{network.readers[0]} stands behind {network.layer}: it would answer wrongly there, "
        f"without a word{hint}"
    )


def _constants(layer: nn.Module) -> tuple[list[float], list[float]]:
    """Means and standard deviations of an input layer, one a channel, as float32 has them."""
    if isinstance(layer, Normalize):
        mean, std = (numbers.expand(3, 1, 1).flatten() for numbers in (layer.mean, layer.std))
        return mean.tolist(), std.tolist()
    assert isinstance(layer, nn.Identity)
    return [0.0] * 3, [1.0] * 3


def layer_there(network: PublishedNetwork) -> str:
    """What a published network is put behind, in words and numbers."""
    mean, std = network.constants
    numbers = "mean " + ", ".join(f"{m:.4g}" for m in mean)
    if network.layer == "none":
        return "no input layer"
    if network.layer == "center":
        return f"InputCenterLayer ({numbers}), as its first version does"
    return f"NormalizeLayer ({numbers}, std {', '.join(f'{s:.4g}' for s in std)})"


def _by(shape: list[int]) -> str:
    return " x ".join(map(str, shape))
