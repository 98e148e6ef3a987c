"""Files for other people's code: what they hold, and what is refused since it would mislead."""

from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from diffsmooth.models.checkpoints.published_networks import (
    NETWORKS,
    check_layer,
    layer_there,
    published_network,
)
from diffsmooth.models.checkpoints.saving import alone, save_whole
from diffsmooth.models.checkpoints.weights import Checkpoint, misfits, named_as
from diffsmooth.models.diffusion.openai import build_unet
from diffsmooth.models.diffusion.presets import PRESETS
from diffsmooth.models.diffusion.unet import AttentionBlock, UNet
from diffsmooth.models.words import Code
from diffsmooth.shown_text import quoted, word
from diffsmooth.stats.errors import UserError

TABLE, INDEX = "relative_position_bias_table", "relative_position_index"  # of timm's BEiTs


class PlainFile(NamedTuple):
    """What a file for other people's code holds.

    Attributes:
        content: what torch.save writes.
        said: whose code reads it, in words.
    """

    content: dict[str, Any]
    said: str


def write_plain(
    path: Path | str, checkpoint: Checkpoint, code: Code | None = None, input_layer: str = ""
) -> PlainFile:
    """Writes `plain_content`, whole or not at all, and gives it back."""
    # All versions of torch read the form from before 1.6, and much of the code is of 2019.
    plain = plain_content(checkpoint, code, input_layer)
    save_whole(Path(path), plain.content, legacy=checkpoint.metadata.kind == "classifier")
    return plain


def plain_content(
    checkpoint: Checkpoint, code: Code | None = None, input_layer: str = ""
) -> PlainFile:
    """A network in the form that the field publishes, in float32.

    Of a U-Net, the bare state dict, with OpenAI's keys. Of a classifier, `{epoch, arch,
    state_dict}`, or MACER's `{net, epoch}`.

    Args:
        code: whose code a classifier's file is for; None: "cohen".
        input_layer: a classifier's, where its file does not say.

    Raises:
        UserError: that code has no such network, or would take this one for another.
    """
    if code is not None and code not in NETWORKS:
        raise UserError(f"knows no code {quoted(code)}: known are {', '.join(get_args(Code))}")
    if checkpoint.metadata.kind == "unet":
        if code is not None or input_layer:
            raise UserError(
                f"{checkpoint.path}: a U-Net, whose plain file is the same for all code"
            )
        _check_unet(checkpoint)
        return PlainFile(_whole(checkpoint.state_dict), "")
    code = code or "cohen"
    network, outline = published_network(checkpoint, code)
    check_layer(checkpoint, network, code, input_layer)
    weights = named_as(outline, checkpoint.state_dict)
    weights = {key.removeprefix("1."): value for key, value in weights.items()}
    if network.arch.startswith("beit"):
        # timm 0.9.5, which DiffSmooth's requirements.txt asks for, stores a table in each block.
        weights |= position_tables(weights, (14, 14))
    weights = _whole({network.prefix + key: value for key, value in weights.items()})
    content: dict[str, Any] = {"epoch": checkpoint.epoch}
    if code == "macer":
        content = {"net": weights, **content}
    else:
        content |= {"arch": network.name, "state_dict": weights}
    said = (
        f"for {', '.join(network.readers)}: {network.name} of {network.dataset}, which that "
        f"code puts behind {layer_there(network)}"
    )
    trained_on = checkpoint.metadata.dataset
    if trained_on not in ("", network.dataset):
        said += f"; it was trained on {word(trained_on)}"
    if network.dataset == "imagenet32":
        said += "; there class k is ILSVRC2012_ID k + 1, which is not the order of the folders"
    return PlainFile(content, said)


def position_tables(weights: dict[str, Tensor], patches: tuple[int, int]) -> dict[str, Tensor]:
    """The tables that timm stored in BEiTs' files: which bias belongs to two tokens.

    Args:
        weights: with one or more relative_position_bias_table.
        patches: (h, w) of them in an image.

    Returns:
        As many tables (1 + h w, 1 + h w), int64: entry (a, b) is of patches a and b the number of
        their offset, (rows + h - 1) (2 w - 1) + columns + w - 1, and of the class token, which
        comes first, one of the three numbers after those.
        Source: timm 0.9.5, models/beit.py, gen_relative_position_index.
    """
    height, width = patches
    offsets = (2 * height - 1) * (2 * width - 1)
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    table = torch.empty(1 + height * width, 1 + height * width, dtype=torch.int64)
    rows, columns = y[:, None] - y + height - 1, x[:, None] - x + width - 1
    table[1:, 1:] = rows * (2 * width - 1) + columns
    table[0, :], table[:, 0], table[0, 0] = offsets, offsets + 1, offsets + 2
    names = [name for name in weights if name.endswith(TABLE)]
    assert all(len(weights[name]) == offsets + 3 for name in names)
    return {name.removesuffix(TABLE) + INDEX: table.clone() for name in names}


def _whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32, whatever they are stored in, and other numbers as they are."""
    return alone(
        {
            key: value.detach().float() if value.is_floating_point() else value.detach()
            for key, value in weights.items()
        }
    )


def _check_unet(checkpoint: Checkpoint) -> None:
    """Raises UserError for a U-Net whose bare state dict would be taken for a published one's.

    Shapes do not tell the number of attention heads, nor the schedule that it was trained on.
    """
    metadata = checkpoint.metadata
    if not metadata.preset:
        return  # it came as a bare state dict
    with torch.device("meta"):
        own = build_unet(metadata.preset, **metadata.overrides)
        known = {name: build_unet(name) for name in PRESETS}
    name = next((n for n, unet in known.items() if not misfits(unet, own.state_dict())), None)
    if name is None:
        return
    differs = ""
    if _heads(own) != _heads(known[name]):
        differs = "another number of attention heads"
    elif PRESETS[metadata.preset][1:] != PRESETS[name][1:]:
        differs = "another noise schedule"
    if differs:
        raise UserError(
            f"{checkpoint.path}: has the shapes of {name}, for which a plain file would be taken, "
            f"but {differs}: export it without --plain"
        )


def _heads(unet: UNet) -> list[int]:
    return [module.heads for module in unet.modules() if isinstance(module, AttentionBlock)]
