"""Denoisers from checkpoints, and from other packages."""

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from diffsmooth.models.checkpoints.folders import diffusers_denoiser
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.sources import values_wanted
from diffsmooth.models.checkpoints.weights import (
    Checkpoint,
    check_kind,
    check_weights,
    load_weights,
    network_sha256,
)
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.diffusion.denoiser import Denoiser, as_denoiser
from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.diffusion.presets import get_preset, unet_config
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.words import Convention, SetName
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import Registry, is_code


def load_denoiser(
    source: Path | str,
    convention: Convention = "diffsmooth",
    pad: str = "none",
    weights: SetName | None = None,
) -> Denoiser:
    """The denoiser of a checkpoint or of another package, in eval mode.

    Args:
        source: the file; or package.module:factory, a function without arguments that gives a
            `Denoiser`, or any callable (noisy, sigma) -> x_0.
        convention: see `match_noise`; of a checkpoint.
        pad: none or reflect, to the side that a checkpoint's U-Net was designed for.
        weights: which of two sets; see `read_checkpoint`.

    Raises:
        UserError: see `read_checkpoint`, `denoiser_of` and `foreign_denoiser`.
    """
    if is_code(str(source)):
        return foreign_denoiser(str(source))
    return denoiser_of(read_checkpoint(source, weights=weights), convention, pad)


def load_unet(
    path: Path | str, preset: str | None = None, weights: SetName | None = None, **overrides: Any
) -> UNet:
    """The U-Net of a checkpoint, in eval mode.

    Args:
        path, weights: see `read_checkpoint`.
        preset, **overrides: architecture, for a file that is none of the published ones.

    Raises:
        UserError: see `read_checkpoint` and `openai_denoiser`.
    """
    checkpoint = read_checkpoint(path, weights=weights)
    return openai_denoiser(checkpoint, preset=preset, **overrides).unet


def openai_denoiser(
    checkpoint: Checkpoint,
    convention: Convention = "diffsmooth",
    pad: str = "none",
    preset: str | None = None,
    **overrides: Any,
) -> OpenAIDenoiser:
    """The U-Net that a checkpoint holds with its schedule, in eval mode.

    Args:
        checkpoint, convention, pad: see `load_denoiser`.
        preset, **overrides: architecture, for a file that is none of the published ones.

    Raises:
        UserError: not a U-Net, an unknown architecture, weights that do not fit, an unknown `pad`.
    """
    if pad not in ("none", "reflect"):
        raise UserError(f"pad must be none or reflect, got {pad!r}")
    outline = openai_outline(checkpoint, preset, **overrides)
    unet = UNet(outline.unet.config)
    load_weights(unet, checkpoint)
    pad_to = unet.config.image_size if pad == "reflect" else None
    trained = checkpoint.metadata.max_sigma
    return OpenAIDenoiser(unet, outline.schedule, convention, pad_to, trained).eval()


def openai_outline(
    checkpoint: Checkpoint, preset: str | None = None, **overrides: Any
) -> OpenAIDenoiser:
    """The denoiser's shapes, which the weights fit, without memory; see `openai_denoiser`."""
    metadata = checkpoint.metadata
    check_kind(checkpoint, "unet")
    if metadata.preset:
        preset, overrides = metadata.preset, metadata.overrides
    if preset is None:
        raise UserError(f"{checkpoint.path}: a diffusion model, but none of those we know")
    config = unet_config(preset, **overrides)
    blocks = config.num_res_blocks * len(config.channel_mult)
    tensors = len(checkpoint.state_dict)
    if blocks > tensors:
        raise UserError(
            f"{checkpoint.path}: num_res_blocks {config.num_res_blocks:,} and channel_mult make "
            f"{blocks:,} blocks, the file holds {tensors} tensors"
        )
    with torch.device("meta"):
        outline = UNet(config)
    check_weights(outline, checkpoint)
    return OpenAIDenoiser(outline, get_preset(preset).schedule)


# From the kind that a checkpoint is of, see `CheckpointMetadata`, to its denoiser; or, of another
# package, a factory of no arguments.
DENOISERS: Registry[Callable[..., Denoiser]] = Registry(
    "denoiser", unet=openai_denoiser, diffusers=diffusers_denoiser
)


def denoiser_of(
    checkpoint: Checkpoint, convention: Convention = "diffsmooth", pad: str = "none"
) -> Denoiser:
    """The denoiser that a checkpoint holds, in eval mode; arguments as of `load_denoiser`.

    Raises:
        UserError: no denoiser, or see its family.
    """
    kind = checkpoint.metadata.kind
    if kind not in DENOISERS:  # a file names no code to import
        raise UserError(f"{checkpoint.path}: holds a {kind}, a {' or '.join(DENOISERS)} is wanted")
    return DENOISERS[kind](checkpoint, convention, pad)


def check_denoiser(denoiser: Denoiser, name: Path | str, sigma: float, info: DatasetInfo) -> None:
    """Raises UserError for a denoiser that was not made for such images or such noise."""
    try:
        denoiser.noise_level(sigma)
        denoiser.check_images(info.image_shape)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def foreign_denoiser(word: str) -> Denoiser:
    """The denoiser that another package's factory gives, in eval mode; its own from each call.

    Raises:
        UserError: there is no such factory, or it gives nothing that can be called.
    """
    return deepcopy(_made(word))


@lru_cache(maxsize=1)
def _made(word: str) -> Denoiser:
    # Once a process: the weights that identify a run are those that vote.
    factory = DENOISERS[word]
    if not callable(factory):
        raise UserError(f"{word}: a denoiser's factory must be callable, got {factory!r}")
    if values_wanted(factory):
        raise UserError(
            f"{word}: wants values itself: name a function without arguments that gives the "
            "denoiser"
        )
    return as_denoiser(factory()).eval()


def foreign_sha256(word: str) -> str:
    """Hex digest of a factory's name and of all that its denoiser holds as a module."""
    return network_sha256(word, _made(word))
