"""A training's options as plain values: kept in its checkpoints, and read from them again."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import FrameType, NoneType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.mixins import HyperparametersMixin
from lightning.pytorch.utilities.parsing import collect_init_args
from torch.optim import Optimizer

from diffsmooth.models.checkpoints.metadata import SETTINGS_KEY
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.diffusion.presets import unet_config
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import names_code

PLAIN = (bool, int, float, str, tuple, NoneType)
HARDWARE = ("fused", "foreach", "capturable", "differentiable")  # how an optimiser computes
# The measures follow from the others, the checkpoint itself holds what these two led to, and how
# fast it came about is no matter.
NOT_KEPT = ("measures", "optimizer", "pretrained", "compile")


def constructor_options(frame: FrameType) -> dict[str, Any]:
    """What the constructors above a frame of one were given, of all classes, as plain values.

    A record becomes a mapping, a network "". What else is not plain is left out: its class must be
    given it anew.
    """
    given: dict[str, Any] = {}
    for own in collect_init_args(frame, [], classes=(HyperparametersMixin,)):
        given.update(own)
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, torch.nn.Module):
            value = ""
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        elif isinstance(value, list):
            value = tuple(value)
        if isinstance(value, (*PLAIN, Mapping)) and name not in NOT_KEPT:
            kept[name] = value
    return kept


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser's class and those of its options that are plain, but for how it computes."""
    said = {"class": type(optimizer).__name__, **optimizer.defaults}
    plain = (name for name, value in said.items() if isinstance(value, PLAIN))
    return {name: said[name] for name in plain if name not in HARDWARE}


def make_described(said: Mapping[str, Any], parameters: Iterable[Any]) -> Optimizer:
    """The optimiser that `describe_optimizer` described.

    Raises:
        UserError: it is not torch's.
    """
    kind = getattr(torch.optim, str(said["class"]), None)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise UserError(f"optimizer {quoted(said['class'])} is not torch's: give it anew")
    known = kind.__init__.__annotations__  # a default may be no argument
    return kind(parameters, **{name: said[name] for name in said if name in known})


class SharedOptimizer:
    """Makes the optimiser, also from what a checkpoint says of it; copies of a module share it.

    The averaging of weights copies the module, and what the command line makes of an optimiser's
    options holds on to the trainer and, with several devices, to locks that cannot be copied.
    """

    def __init__(self, make: OptimizerCallable) -> None:
        self.make = partial(make_described, make) if isinstance(make, Mapping) else make

    def __deepcopy__(self, memo: Any) -> "SharedOptimizer":
        return self


def options_of(
    checkpoint: Checkpoint, needed: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a checkpoint's training, as far as it says them, and those given instead.

    Raises:
        UserError: a needed one is not said, or it is code.
    """
    said = checkpoint.training.get(LightningModule.CHECKPOINT_HYPER_PARAMS_KEY)
    for name in ("arch", "dataset"):
        value = (said or {}).get(name)
        if isinstance(value, str) and names_code(value) and name not in given:
            raise UserError(
                f"{checkpoint.path}: its {name} is code, {quoted(value)}, and a file does not "
                f"choose what is run: give {name}=..."
            )
    options = {**(said or _options_before(checkpoint)), **given}
    for name in needed:
        if options.get(name) in ("", None):
            raise UserError(f"{checkpoint.path}: does not say its {name}: give {name}=...")
    return options


def _options_before(checkpoint: Checkpoint) -> dict[str, Any]:
    """Of a checkpoint that does not keep them all: an older or exported one, or the field's."""
    said, metadata = checkpoint.metadata, checkpoint.metadata._asdict()
    settings: Mapping[str, Any] = checkpoint.training.get(SETTINGS_KEY, {})
    names = ("arch", "input_layer", "sigma") if said.kind == "classifier" else ()
    options = {name: metadata[name] for name in names if metadata[name] not in ("", None)}
    options |= {name: value for name, value in settings.items() if "." not in name}
    for group in ("learning_rate", "optimizer"):
        own = {name.removeprefix(f"{group}."): value for name, value in settings.items()
               if name.startswith(f"{group}.")}  # fmt: skip
        options |= {group: own} if own else {}
    if said.kind == "classifier" and said.dataset_info:
        options["dataset"] = said.dataset_info
    if said.kind == "unet" and said.preset:
        options |= {name: metadata[name] for name in ("preset", "overrides", "max_sigma")}
        config = unet_config(said.preset, **said.overrides)
        shape = (config.in_channels, config.image_size, config.image_size)
        options["dataset"] = DatasetInfo(said.dataset, shape, ())
    return options
