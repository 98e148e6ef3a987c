"""Checkpoint files: the only torch.load of the project, always with weights_only=True."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsmooth.models.classifiers import build_classifier
from diffsmooth.models.dataset_info import DatasetInfo
from diffsmooth.models.presets import build_unet
from diffsmooth.models.unet import UNet

METADATA_KEY = "diffsmooth"


class CheckpointMetadata(NamedTuple):
    """What a checkpoint of ours says of its network.

    Attributes:
        kind: "classifier" or "unet".
        dataset: name of what it was trained on.
        arch, input_layer, image_shape, class_names, mean, std: of a classifier; see `DatasetInfo`.
        sigma: of a classifier: its training noise (sigma'), [0, 1] pixel units; 0 for clean.
        preset, overrides: of a U-Net: its architecture.
        max_sigma: of a U-Net: the largest noise level it was trained for; None: its schedule's.
    """

    kind: str
    dataset: str
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

    @property
    def dataset_info(self) -> DatasetInfo:
        """Of a classifier: the facts of what it was trained on."""
        channels, height, width = self.image_shape
        return DatasetInfo(
            self.dataset,
            (channels, height, width),
            tuple(self.class_names),
            tuple(self.mean),
            tuple(self.std),
        )


class Checkpoint(NamedTuple):
    """A checkpoint's content.

    Attributes:
        path: where it lies.
        metadata: what it says of itself.
        state_dict: the network's weights.
        epoch: number of the last epoch of training.
        resumable: whether training can go on from it.
    """

    path: Path
    metadata: CheckpointMetadata
    state_dict: dict[str, Tensor]
    epoch: int
    resumable: bool


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Reads a checkpoint of ours: a Lightning one, or one that `write_checkpoint` wrote.

    Raises:
        ValueError: missing, broken, not a checkpoint, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a broken file can raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict) or METADATA_KEY not in content:
        raise ValueError(f"{path}: not a checkpoint that train.py or `diffsmooth export` wrote")
    try:
        metadata = CheckpointMetadata(**content[METADATA_KEY])
        state_dict, epoch = content["state_dict"], int(content["epoch"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: a broken checkpoint ({error})") from error
    # Lightning prefixes the keys with the attribute's name in the training module.
    prefix = f"{metadata.kind}."
    if any(key.startswith(prefix) for key in state_dict):
        state_dict = {
            key.removeprefix(prefix): value
            for key, value in state_dict.items()
            if key.startswith(prefix)
        }
    return Checkpoint(path, metadata, state_dict, epoch, "optimizer_states" in content)


def write_checkpoint(
    path: Path | str, metadata: CheckpointMetadata, state_dict: dict[str, Tensor], epoch: int = 0
) -> None:
    """Writes weights and metadata, whole or not at all.

    The file has the keys `epoch`, `arch` and `state_dict` of the field's classifier checkpoints,
    and one more for the metadata.
    """
    content = {
        "epoch": epoch,
        "arch": metadata.arch or metadata.preset,
        "state_dict": state_dict,
        METADATA_KEY: metadata._asdict(),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(content, partial)
    os.replace(partial, path)


def load_classifier(path: Path | str) -> nn.Sequential:
    """The classifier of a checkpoint, in eval mode.

    Raises:
        ValueError: see `read_checkpoint` and `classifier_of`.
    """
    return classifier_of(read_checkpoint(path))


def classifier_of(checkpoint: Checkpoint) -> nn.Sequential:
    """The classifier that a checkpoint holds, in eval mode.

    Raises:
        ValueError: not a classifier, or weights that do not fit.
    """
    metadata = _of_kind(checkpoint, "classifier")
    info = metadata.dataset_info
    model = build_classifier(metadata.arch, info.num_classes, metadata.input_layer, info)
    load_weights(model, checkpoint)
    return model.eval()


def load_unet(path: Path | str) -> UNet:
    """The U-Net of a checkpoint, in eval mode.

    Raises:
        ValueError: see `read_checkpoint` and `unet_of`.
    """
    return unet_of(read_checkpoint(path))


def unet_of(checkpoint: Checkpoint) -> UNet:
    """The U-Net that a checkpoint holds, in eval mode.

    Raises:
        ValueError: not a U-Net, or weights that do not fit.
    """
    metadata = _of_kind(checkpoint, "unet")
    model = build_unet(metadata.preset, **metadata.overrides)
    load_weights(model, checkpoint)
    return model.eval()


def _of_kind(checkpoint: Checkpoint, kind: str) -> CheckpointMetadata:
    if checkpoint.metadata.kind != kind:
        raise ValueError(
            f"{checkpoint.path}: holds a {checkpoint.metadata.kind}, a {kind} is wanted"
        )
    return checkpoint.metadata


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads a checkpoint's weights into a network.

    Raises:
        ValueError: see `check_weights`.
    """
    check_weights(model, checkpoint)
    model.load_state_dict(checkpoint.state_dict)


def check_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Checks that a checkpoint's weights fit a network exactly.

    Raises:
        ValueError: they do not; the first keys that do not fit are named.
    """
    wanted, weights = model.state_dict(), checkpoint.state_dict
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    problems += [f"{key} is not expected" for key in weights if key not in wanted]
    problems += [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{checkpoint.path}: weights do not fit: {'; '.join(problems[:3])}{more}")
