"""Base classifiers: an input layer and a network, from an architecture's name."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from diffsmooth.models.classifiers.cifar_resnet import CifarResNet
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info
from diffsmooth.models.classifiers.hugging_face import (
    build_transformers,
    expected_size,
    is_transformers_folder,
    processor_of,
)
from diffsmooth.models.classifiers.input_layers import Resized, build_input_layer
from diffsmooth.shown_text import is_word, quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import (
    Registry,
    can_call,
    check_call,
    imported,
    names_code,
    values_wanted,
)

CLASSES = 10  # that a factory is tried with
CIFAR_EXAMPLES = ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110")


class Classifier(nn.Sequential):
    """An input layer and a network, whose outputs are logits, or hold them as `.logits`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to logits (B, K)."""
        output = super().forward(x)
        return getattr(output, "logits", output)


def build_classifier(
    arch: str,
    num_classes: int,
    input_layer: str | nn.Module = "standard",
    dataset: str | DatasetInfo = "cifar10",
) -> nn.Sequential:
    """A classifier with fresh weights: `Sequential(input layer, network)`, keys from "1." on.

    A network that takes one size of images only gets others resized, inside the input layer.

    Args:
        arch: cifar_resnetD with D = 6n + 2 (cifar_resnet20, cifar_resnet110, ...), a timm name, one
            of `DMAE`, a folder of `transformers`, whose config.json says it, or
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
    network, size, antialias = _build_network(arch, num_classes, info.image_shape[0])
    if size is not None and size != info.image_shape[1:]:
        layer = Resized(layer, size, antialias)
    return Classifier(layer, network)


class Network(NamedTuple):
    """A network behind its input layer.

    Attributes:
        module: the network.
        size: (H, W), the one size of images that it takes; None where it takes several.
        antialias: how others are resized, see `Resized`.
    """

    module: nn.Module
    size: tuple[int, int] | None = None
    antialias: bool = True


class Family(NamedTuple):
    """A kind of networks.

    Attributes:
        knows: whether an architecture's name is of this family.
        build: a network from its name, the number of classes and that of the images' channels.
    """

    knows: Callable[[str], bool]
    build: Callable[[str, int, int], Network]


def _build_network(arch: str, num_classes: int, channels: int) -> Network:
    for family in map(FAMILIES.__getitem__, FAMILIES):
        if family.knows(arch):
            return family.build(arch, num_classes, channels)
    import timm

    near = get_close_matches(arch, [*CIFAR_EXAMPLES, *timm.list_models()])
    raise UserError(
        f"unknown architecture {arch!r}: known are cifar_resnet<6n+2>, timm's, "
        f"{', '.join(DMAE)}, folders of transformers, and package.module:factory"
        + (f"; near are {', '.join(near)}" if near else "")
    )


def network_factory(word: str, is_architecture: bool = False) -> Callable[[int], nn.Module]:
    """Another package's factory, package.module:name, of a network from the number of classes.

    Args:
        word: its name.
        is_architecture: whether it is called with that number wherever it takes a value; else only
            where it wants one, for what a network as it is has a default for may be anything.

    Raises:
        UserError: there is none, or it wants something else; or, when it is called, it gives no
            module.
    """
    factory = imported_factory(word)
    what = "called with the number of classes or nothing, that gives the network"
    takes = callable(factory) and (
        can_call(factory, CLASSES) if is_architecture else values_wanted(factory) > 0
    )
    check_call(word, factory, what, *([CLASSES] if takes else []))

    def make(num_classes: int) -> nn.Module:
        try:
            network = factory(num_classes) if takes else factory()
        except (AttributeError, TypeError) as error:
            if not takes:
                raise
            raise UserError(
                f"{word}: called with {num_classes}, the number of classes, it ends with "
                f"{type(error).__name__}: {error} (it is called to make the network, which is then "
                "called with images)"
            ) from error
        if not isinstance(network, nn.Module):
            raise UserError(f"{word}: must give an nn.Module, got a {type(network).__name__}")
        return network

    return make


def imported_factory(word: str) -> Any:
    """What package.module:name stands for, if it is no network itself.

    Raises:
        UserError: it is, or see `imported`.
    """
    factory = imported(word)
    if isinstance(factory, nn.Module):
        name = word.partition(":")[2]
        raise UserError(
            f"{word}: is a network ({type(factory).__name__}), not a function that gives one: "
            f"write def make(): return {name}, and name that"
        )
    return factory


def _foreign(arch: str, num_classes: int, channels: int) -> Network:
    return Network(network_factory(arch, is_architecture=True)(num_classes))


def _cifar_resnet(arch: str, num_classes: int, channels: int) -> Network:
    try:
        return Network(CifarResNet(cifar_depth(arch) or 0, num_classes, channels))
    except ValueError as error:
        raise UserError(f"architecture {arch}: {error}") from error


def _is_timm(arch: str) -> bool:
    import timm  # takes seconds to import

    return timm.is_model(arch)


def _timm(arch: str, num_classes: int, channels: int) -> Network:
    import timm

    # timm's ResNets begin with zeros in the last batch norm of each block, torchvision's with ones,
    # as the published base classifiers did; else the two draw the same weights.
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if timm.models.is_model_in_modules(arch, ("resnet",)):
        options["zero_init_last"] = False
    try:
        network = timm.create_model(arch, **options)
    except RuntimeError as error:  # a tag that it does not know
        raise UserError(f"architecture {arch}: timm does not make it ({error})") from error
    config = timm.get_pretrained_cfg(arch)
    if config is None or not config.fixed_input_size:
        return Network(network)
    _, height, width = config.input_size
    return Network(network, (height, width))


class _Dmae(NamedTuple):
    """A network of DMAE's: timm's name of it, and its input layer."""

    timm: str
    input_layer: str


# ViTs trained under noise, with the mean over all patches in place of the class token. Their files
# say neither mean nor std. Source: models_vit.py and certify_cifar10.py of quanlin-wu/dmae.
DMAE = {
    "dmae_cifar10": _Dmae("vit_base_patch16_224", "0.4914,0.4822,0.4465,0.2471,0.2435,0.2616"),
    "dmae_imagenet": _Dmae("vit_base_patch16_224", "0.485,0.456,0.406,0.229,0.224,0.225"),
    "dmae_imagenet_large": _Dmae("vit_large_patch16_224", "0.485,0.456,0.406,0.229,0.224,0.225"),
}


def _dmae(arch: str, num_classes: int, channels: int) -> Network:
    import timm

    network = timm.create_model(
        DMAE[arch].timm, num_classes=num_classes, in_chans=channels, global_pool="avg"
    )
    return Network(network, (224, 224), antialias=False)


def own_input_layer(arch: str) -> str:
    """The input layer that an architecture's name, or its folder, tells; "" where it says none.

    Raises:
        UserError: a folder's image processor cannot be read.
    """
    if arch in DMAE:
        return DMAE[arch].input_layer
    processor = processor_of(Path(arch)) if is_transformers_folder(arch) else None
    return "" if processor is None else processor.layer


def cifar_depth(arch: str) -> int | None:
    """The D of cifar_resnetD; None for other names."""
    found = re.fullmatch(r"cifar_resnet([0-9]{1,9})", arch)
    return int(found.group(1)) if found else None


def _transformers(arch: str, num_classes: int, channels: int) -> Network:
    return Network(build_transformers(arch, num_classes, channels), expected_size(arch))


FAMILIES = Registry[Family](
    "classifier family",
    foreign=Family(names_code, _foreign),
    dmae=Family(DMAE.__contains__, _dmae),
    cifar_resnet=Family(lambda arch: cifar_depth(arch) is not None, _cifar_resnet),
    transformers=Family(is_transformers_folder, _transformers),
    timm=Family(_is_timm, _timm),
)


def pretrained_normalization(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that timm's own weights of an architecture were trained with, or None."""
    import timm

    if not timm.is_model(arch):
        return None
    config = timm.get_pretrained_cfg(arch)
    return None if config is None else (tuple(config.mean), tuple(config.std))
