"""Whose checkpoint is it? From a file's content to weights with our keys."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmooth.models.presets import PRESETS, build_unet
from diffsmooth.models.weights import (
    METADATA_KEY,
    Checkpoint,
    CheckpointMetadata,
    misfits,
    read_file,
)

# Published names of `arch` that differ from ours.
ARCHITECTURES = {"imagenet32_resnet110": "cifar_resnet110"}
UNET_KEY = "input_blocks.0.0.weight"


def read_checkpoint(path: Path | str, unsafe: bool = False) -> Checkpoint:
    """Reads a checkpoint of ours or of the field.

    Known are: Lightning checkpoints of train.py and what `write_checkpoint` wrote; `{arch,
    state_dict, ...}` of Cohen et al. 2019, Salman et al. 2019 and DiffSmooth; `{net, epoch}` of
    MACER (Zhai et al. 2020); bare state dicts, such as OpenAI's diffusion models and timm's.

    Args:
        path: the file.
        unsafe: see `read_file`.

    Raises:
        ValueError: see `read_file`; or not a checkpoint; or one of a class-conditional U-Net.
    """
    path = Path(path)
    content = read_file(path, unsafe)
    if isinstance(content, dict) and METADATA_KEY in content:
        return _ours(path, content)
    if _is_state_dict(content):
        return _foreign(path, content, "a bare state dict", CheckpointMetadata("classifier"))
    if isinstance(content, dict) and _is_state_dict(content.get("model")):
        family = "timm or the like"
        return _foreign(path, content["model"], family, CheckpointMetadata("classifier"))
    if isinstance(content, dict) and _is_state_dict(content.get("net")):
        # MACER's code normalises nothing; others write such files, with more in them, that do.
        layer = "none" if set(content) == {"net", "epoch"} else ""
        metadata = CheckpointMetadata("classifier", input_layer=layer)
        return _foreign(path, content["net"], "MACER", metadata, content.get("epoch", -1))
    if isinstance(content, dict) and _is_state_dict(content.get("state_dict")):
        arch = content.get("arch")
        arch = arch if isinstance(arch, str) else ""
        layer = "0.5,0.5" if arch.startswith("beit_") else ""  # as DiffSmooth's code has it
        arch = ARCHITECTURES.get(arch, arch)
        metadata = CheckpointMetadata("classifier", arch=arch, input_layer=layer)
        family = "Cohen et al., SmoothAdv or DiffSmooth"
        epoch = content.get("epoch", -1)
        return _foreign(path, content["state_dict"], family, metadata, epoch)
    raise ValueError(f"{path}: holds no weights that we know how to read")


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    )


def _ours(path: Path, content: dict[str, Any]) -> Checkpoint:
    try:
        metadata = CheckpointMetadata(**content[METADATA_KEY])
        metadata.check()
        state_dict, epoch = content["state_dict"], int(content["epoch"])
        if not _is_state_dict(state_dict):
            raise ValueError("its state_dict holds no weights")
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
    resumable = "optimizer_states" in content
    family = "train.py" if resumable else "diffsmooth export"
    return Checkpoint(path, family, metadata, state_dict, epoch, resumable)


def _foreign(
    path: Path,
    weights: dict[str, Tensor],
    family: str,
    metadata: CheckpointMetadata,
    epoch: Any = -1,
) -> Checkpoint:
    # DataParallel puts a level "module" into the keys, outermost or inside a Sequential.
    weights = {re.sub(r"(^|\.)module\.", r"\1", key): value for key, value in weights.items()}
    epoch = epoch if isinstance(epoch, int) else -1
    if UNET_KEY in weights:
        return Checkpoint(path, "OpenAI", _describe_unet(path, weights), weights, epoch)
    if not all(key.startswith("1.") for key in weights):  # the network without its input layer
        weights = {f"1.{key}": value for key, value in weights.items()}
    if metadata.arch.startswith("beit") or not metadata.arch:
        # timm had this table as a buffer once; it is a function of the image's size.
        weights = {
            key: value for key, value in weights.items() if "relative_position_index" not in key
        }
    if not metadata.arch:
        metadata = metadata._replace(arch=_cifar_architecture(weights))
    return Checkpoint(path, family, metadata, weights, epoch)


def _describe_unet(path: Path, weights: dict[str, Tensor]) -> CheckpointMetadata:
    if "label_emb.weight" in weights:
        raise ValueError(
            f"{path}: a class-conditional diffusion model (it has label_emb.weight); "
            "the unconditional one is wanted, such as 256x256_diffusion_uncond.pt"
        )
    for name in PRESETS:
        with torch.device("meta"):
            unet = build_unet(name)
        if not misfits(unet, weights):
            return CheckpointMetadata("unet", preset=name)
    return CheckpointMetadata("unet")


def _cifar_architecture(weights: dict[str, Tensor]) -> str:
    """cifar_resnetD where the keys and the first layer's width are such a network's, else ""."""
    first = weights.get("1.conv1.weight")
    blocks = {int(m.group(1)) for key in weights if (m := re.match(r"1\.layer1\.(\d+)\.", key))}
    if first is None or first.shape[0] != 16 or "1.layer4.0.conv1.weight" in weights:
        return ""
    return f"cifar_resnet{6 * len(blocks) + 2}"
