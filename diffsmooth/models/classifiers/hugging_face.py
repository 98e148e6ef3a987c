"""Image classifiers of Hugging Face `transformers`, from their folders: local files, no code."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch import nn

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
CONFIG_BYTES = 4 * 2**20


class ImageProcessor(NamedTuple):
    """What a folder's processor makes of an image before the network sees it.

    Attributes:
        size: (height, width), None where it does not say.
        layer: the same as an input layer of images in [0, 1], see `build_input_layer`.
    """

    size: tuple[int, int] | None
    layer: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """That of a preprocessor_config.json.

        Raises:
            UserError: it holds no such numbers.
        """
        try:
            return cls(_size(config), _layer(config))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"an image processor that cannot be read: {quoted(error)}") from error


def _size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    cropped = config.get("do_center_crop") and config.get("crop_size")
    size = cropped or config.get("size")
    if not size or not (cropped or config.get("do_resize", True)):
        return None
    if isinstance(size, int):
        return size, size
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    return int(size["height"]), int(size["width"])


def _layer(config: Mapping[str, Any]) -> str:
    """(255 x * factor - offset - mean) / std as (x - mean') / std'; "" where it does not say."""
    if config.get("do_flip_channel_order"):
        raise ValueError("its network takes blue first (do_flip_channel_order)")
    mean, std = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", True):
        mean, std = 0.0, 1.0
    elif mean is None or std is None:
        if "do_normalize" in config:
            raise ValueError("it normalises, and does not say by what")
        return ""
    mean, std = ([each] if isinstance(each, int | float) else list(each) for each in (mean, std))
    if config.get("include_top"):  # EfficientNet's divides twice
        std = [each**2 for each in std]
    told = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    factor = 255 * float(told)
    if math.isclose(factor, 1):
        factor = 1.0
    offset = 1.0 if config.get("rescale_offset") else 0.0
    means = [(float(each) + offset) / factor for each in mean]
    stds = [float(each) / factor for each in std]
    if {*means} == {0.0} and {*stds} == {1.0}:
        return "none"
    return ",".join(map(repr, (*means, *stds)))


def read_config(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """A configuration of a folder; empty where there is none.

    Raises:
        UserError: not a JSON object.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > CONFIG_BYTES:
            raise UserError(f"{path}: no configuration is so large")
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON text ({type(error).__name__})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: not a JSON object")
    return config


def is_transformers_folder(name: str) -> bool:
    """Whether a name is the path of a folder with a configuration of `transformers`.

    With a separator: `resnet50` is an architecture, whatever lies there, and `./resnet50` a folder.
    """
    path = Path(name)
    try:
        return os.sep in name and (path / CONFIG).is_file() and "model_type" in read_config(path)
    except (OSError, ValueError):
        return False


def processor_of(folder: Path) -> ImageProcessor | None:
    """The image processor of a folder, None where it has none.

    Raises:
        UserError: one that cannot be read.
    """
    for name in PROCESSORS:
        config = read_config(folder, name)
        config = config.get("image_processor", config)
        if config:
            try:
                return ImageProcessor.from_config(config)
            except UserError as error:
                raise UserError(f"{folder / name}: {error}") from error
    return None


def transformers_config(folder: Path | str) -> Any:
    """The library's configuration of an image classifier.

    Raises:
        UserError: `transformers` is not installed; a folder that wants code of its own to be run,
            or whose network classifies no images.
    """
    path = Path(folder)
    said = read_config(path)
    if "auto_map" in said:
        raise UserError(
            f"{path}: its network is code of its own (auto_map), which is not run: build it "
            "yourself, and name it as package.module:factory"
        )
    classifies = [str(name) for name in said.get("architectures") or ()]
    if not any(name.endswith("ForImageClassification") for name in classifies):
        raise UserError(
            f"{path}: no image classifier (architectures {quoted(classifies)}; one that ends in "
            "ForImageClassification is wanted)"
        )
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise UserError(
            f"{path}: needs transformers: pip install 'diffsmooth[hf]' ({error})"
        ) from error
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the library, for what a file says
        raise UserError(f"{path}: not a configuration that is known ({error})") from error


def build_transformers(folder: str, num_classes: int, channels: int) -> nn.Module:
    """The network of a folder's configuration, with fresh weights.

    Args:
        folder: holds config.json.
        num_classes: number of logits.
        channels: of the images.

    Raises:
        UserError: see `transformers_config`; or it takes images of other channels.
    """
    config = transformers_config(folder)
    wanted = getattr(config, "num_channels", channels)
    if wanted != channels:
        raise UserError(
            f"{folder}: takes images whose number of channels is {wanted}, not {channels}"
        )
    from transformers import AutoModelForImageClassification

    config.num_labels = num_classes
    network = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    return network.float()  # of whatever type the configuration says


def expected_size(folder: Path | str) -> tuple[int, int] | None:
    """The size (H, W) of images that a folder's network was trained on, None where it is unsaid."""
    processor = processor_of(Path(folder))
    if processor is not None and processor.size is not None:
        return processor.size
    side = read_config(Path(folder)).get("image_size")
    if isinstance(side, int):
        return side, side
    if isinstance(side, list) and len(side) == 2:
        return int(side[0]), int(side[1])
    return None
