"""What our checkpoints say of their network, and which of it can be true."""

import math
from typing import Any, NamedTuple

from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.classifiers.input_layers import WORDS, beyond_images, layer_numbers
from diffsmooth.models.diffusion.presets import unet_config
from diffsmooth.shown_text import is_word, quoted
from diffsmooth.stats.errors import UserError

METADATA_KEY = "diffsmooth"
METHOD_KEY = "diffsmooth_training"  # the class that trained it
SETTINGS_KEY = "diffsmooth_settings"  # and its options
TRAINING_KEYS = (METHOD_KEY, SETTINGS_KEY, "hyper_parameters")  # the last is Lightning's

LARGEST_SIGMA = 1e6  # [0, 1] pixel units; float32 noise is still far from its end
LARGEST_SIDE = 8192
MOST_CHANNELS = 256


class CheckpointMetadata(NamedTuple):
    """What a checkpoint says of its network; a field is empty where it does not say.

    Attributes:
        kind: "classifier" or "unet".
        dataset: name of what it was trained on.
        arch, input_layer, image_shape, class_names, mean, std: a classifier's; see `DatasetInfo`.
        sigma: a classifier's training noise (sigma'), [0, 1] pixel units; 0 for clean.
        purified_sigma: the noise level, same units, that was purified before a classifier's
            training noise was added.
        preset, overrides: a U-Net's architecture.
        max_sigma: the largest noise level, same units, that a U-Net was trained for; None: its
            schedule's.
    """

    kind: str
    dataset: str = ""
    arch: str = ""
    input_layer: str = ""
    image_shape: list[int] = []
    class_names: list[str] = []
    mean: list[float] = []
    std: list[float] = []
    sigma: float | None = None
    preset: str = ""
    overrides: dict[str, Any] = {}
    max_sigma: float | None = None
    purified_sigma: float | None = None

    def check(self) -> None:
        """Raises UserError unless each field can be true: they come from a file."""
        if self.kind not in ("classifier", "unet"):
            raise UserError(f"of unknown kind {quoted(self.kind)}")
        for name in ("dataset", "arch", "input_layer", "preset"):
            if not is_word(getattr(self, name)):
                raise UserError(f"{name} is not a word, but {quoted(getattr(self, name))}")
        for name in ("sigma", "max_sigma", "purified_sigma"):
            value = getattr(self, name)
            if value is not None and not _is_number(value, 0.0, LARGEST_SIGMA):
                raise UserError(
                    f"{name} is not a number from 0 to {LARGEST_SIGMA:g}, but {quoted(value)}"
                )
        self._check_images()
        if not isinstance(self.overrides, dict) or not all(map(is_word, self.overrides)):
            raise UserError(f"overrides is not a mapping of words, but {quoted(self.overrides)}")
        if self.kind == "unet":
            unet_config(self.preset, **self.overrides)

    def _check_images(self) -> None:
        shape, names = self.image_shape, self.class_names
        if not isinstance(shape, list) or len(shape) not in (0, 3):
            raise UserError(f"image_shape is not (C, H, W), but {quoted(shape)}")
        for side, most in zip(shape, (MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIDE), strict=False):
            if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= most:
                raise UserError(
                    f"image_shape is not (C, H, W) of at most {MOST_CHANNELS} x {LARGEST_SIDE} x "
                    f"{LARGEST_SIDE}, but {quoted(shape)}"
                )
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"class_names is not a list of str, but {quoted(names)}")
        if shape and not names:
            raise UserError("class_names is empty, though image_shape is given")
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            values = getattr(self, name)
            if not isinstance(values, list) or not all(
                _is_number(value, least, math.inf) for value in values
            ):
                raise UserError(f"{name} is not a list of finite numbers, but {quoted(values)}")
        if 0.0 in self.std:
            raise UserError(f"std holds a 0: {quoted(self.std)}")
        if problem := beyond_images(self.mean, self.std):
            raise UserError(problem)
        wanted = {0, shape[0]} if shape else {0, len(self.mean)}
        if len(self.mean) not in wanted or len(self.mean) != len(self.std):
            raise UserError(
                f"mean and std are not one number a channel each, but {quoted(self.mean)} and "
                f"{quoted(self.std)}"
            )
        if self.input_layer and self.input_layer not in WORDS:
            layer_numbers(self.input_layer, shape[0] if shape else None)

    @property
    def dataset_info(self) -> DatasetInfo | None:
        """The facts of what a classifier was trained on, None where it does not say."""
        if not self.image_shape:
            return None
        channels, height, width = self.image_shape
        return DatasetInfo(
            self.dataset,
            (channels, height, width),
            tuple(self.class_names),
            tuple(self.mean),
            tuple(self.std),
        )


def _is_number(value: object, least: float, most: float) -> bool:
    """Whether a value is a finite number of that range, and no bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and least <= value <= most
    except OverflowError:  # an integer beyond all floats
        return False
