"""The first layer of a base classifier: it maps [0, 1] pixels to what the network was trained on.

The layer sits inside the model, so that noise and radii stay in [0, 1] pixel units. The constants
are not part of the state dict, as in the published checkpoints.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

InputLayerName = Literal["standard", "center", "none"]
WORDS: tuple[str, ...] = get_args(InputLayerName)
# In [0, 1] pixel units. Beyond these all images look alike, or none is finite in bf16; of 0 .. 255,
# such as 127.5,127.5, are the numbers that are meant for others.
LARGEST_MEAN, SMALLEST_STD, LARGEST_STD = 10.0, 1e-4, 100.0


class Normalize(nn.Module):
    """(x - mean) / std per channel.

    Args:
        mean, std: per channel, in [0, 1] pixel units; finite, each std > 0.

    Raises:
        ValueError: lengths differ, a number is not finite, or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        finite = all(map(math.isfinite, (*mean, *std)))
        if len(mean) != len(std) or not finite or not all(s > 0 for s in std):
            raise ValueError(
                f"need as many means as stds, all finite, stds > 0, got mean {mean}, std {std}"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] units to the same shape."""
        return (x - self.mean) / self.std


class InputCenter(Normalize):
    """x - mean per channel: the input layer of most SmoothAdv checkpoints (Salman et al. 2019)."""

    def __init__(self, mean: tuple[float, ...]) -> None:
        super().__init__(mean, (1.0,) * len(mean))


class Resized(nn.Module):
    """An input layer behind a bicubic resize, for networks of one image size.

    Args:
        layer: the input layer.
        size: (height, width) that the network takes.
        antialias: as of Pillow's filter (a = -0.5, Keys 1981), or else as torchvision resized
            tensors for long (a = -0.75).
    """

    def __init__(self, layer: nn.Module, size: tuple[int, ...], antialias: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.size = size
        self.antialias = antialias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, *size)."""
        return self.layer(interpolate(x, self.size, mode="bicubic", antialias=self.antialias))


def build_input_layer(name: str, info: DatasetInfo) -> nn.Module:
    """The input layer called `name` for a dataset.

    Args:
        name: "standard" ((x - mean) / std), "center" (x - mean), "none" (x); or numbers: means,
            then as many standard deviations, one each or one a channel, such as "0.5,0.5".
        info: gives mean and std of the words.

    Raises:
        UserError: unknown name, wrong numbers, or a dataset that has no conventional mean.
    """
    if name == "none":
        return nn.Identity()
    if name in ("standard", "center"):
        if not info.mean:
            raise UserError(
                f"dataset {info.name!r} has no conventional mean: its input layer is none, or "
                "MEAN,STD (in training --model.init_args.input_layer none, else --normalize none)"
            )
        return Normalize(info.mean, info.std) if name == "standard" else InputCenter(info.mean)
    return Normalize(*layer_numbers(name, info.image_shape[0]))


def layer_numbers(name: str, channels: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The means, then the standard deviations, of an input layer that is given by numbers.

    Args:
        name: such as "0.5,0.5".
        channels: the images'; None where that is not known.

    Raises:
        UserError: not such a text; numbers that are not finite, or standard deviations <= 0.
    """
    try:
        numbers = tuple(float(word) for word in name.split(","))
    except (ValueError, AttributeError):
        numbers = ()
    fitting = len(numbers) in (2, 2 * channels) if channels else len(numbers) % 2 == 0
    if not numbers or not fitting:
        raise UserError(
            f"unknown input layer {quoted(name)}: known are {', '.join(WORDS)}, and MEAN,STD"
        )
    means, stds = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    if not all(map(math.isfinite, numbers)) or min(stds) <= 0:
        raise UserError(f"input layer {quoted(name)}: all numbers must be finite, and the stds > 0")
    if problem := beyond_images(means, stds):
        raise UserError(f"input layer {quoted(name)}: {problem}")
    return means, stds


def beyond_images(means: Sequence[float], stds: Sequence[float]) -> str:
    """Why means and standard deviations cannot be those of images in [0, 1]; "" if they can."""
    for mean in means:
        if abs(mean) > LARGEST_MEAN:
            return f"a mean of {mean:g} is beyond images in [0, 1] (of 0..255? Divide it by 255)"
    for std in stds:
        if not SMALLEST_STD <= std <= LARGEST_STD:
            return (
                f"a standard deviation of {std:g} is beyond images in [0, 1]: "
                f"{SMALLEST_STD:g} to {LARGEST_STD:g} (of 0..255? Divide it by 255)"
            )
    return ""
