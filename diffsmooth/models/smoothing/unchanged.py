"""Whether a layer of ours is as we made it: only then another form may stand for it."""

import torch
from torch import nn

from diffsmooth.models.classifiers.cifar_resnet import CifarResNet

HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def is_unchanged(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether it is of exactly that kind, and nobody has hooked into its forward or replaced it.

    Parametrised layers are of a kind of their own.
    """
    is_hooked = any(getattr(module, name) for name in HOOKS)
    return type(module) is kind and not is_hooked and "forward" not in vars(module)


def can_fuse(network: nn.Module) -> bool:
    """Whether a network is a `CifarResNet` as we made it, but for its last layer, which is called.

    Whoever has changed a layer, hung a hook on one or put another in its place gets what they made.
    """
    if not is_unchanged(network, CifarResNet):
        return False
    layers = {
        name: module for name, module in network.named_modules() if not f"{name}.".startswith("fc.")
    }
    return _kinds_of_layers(layers) and all(map(_is_plain, layers.values()))


def _kinds_of_layers(layers: dict[str, nn.Module]) -> bool:
    """Whether they are a ResNet's, at their places."""
    blocks = sum(name.startswith("layer1.") and name.count(".") == 1 for name in layers)
    if not blocks:
        return False
    with torch.device("meta"):  # no memory, and nobody's random numbers
        same = CifarResNet(6 * blocks + 2).named_modules()
    usual = {name: type(module) for name, module in same if name != "fc"}
    return {name: type(module) for name, module in layers.items()} == usual


def _is_plain(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return False
    if isinstance(module, nn.BatchNorm2d) and (module.running_var is None or not module.affine):
        return False
    return is_unchanged(module, type(module))
