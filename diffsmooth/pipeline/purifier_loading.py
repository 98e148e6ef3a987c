"""The purifier that a run asks for, and the file of its network."""

from pathlib import Path
from typing import NamedTuple

from diffsmooth.lit.data import ImageSet
from diffsmooth.models.checkpoints.denoisers import (
    check_denoiser,
    denoiser_of,
    foreign_denoiser,
    foreign_sha256,
)
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.sources import path_sha256
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.words import Convention
from diffsmooth.pipeline.specification import (
    DIFFUSION_FILES,
    OUR_DIFFUSION,
    PurifierOptions,
)
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code


class LoadedPurifier(NamedTuple):
    """A purifier, and the file of its network.

    Attributes:
        source: the file, or package.module:factory; None where it has no network.
        set_key, note: which weights of the file were taken, see `Checkpoint`.
    """

    purifier: Purifier
    source: str | None
    set_key: str = ""
    note: str = ""


def load_purifier(options: PurifierOptions, sigma: float, images: ImageSet) -> LoadedPurifier:
    """The purifier that the options ask for, for noise up to sigma.

    Raises:
        UserError: its checkpoint is missing or broken, or was not made for such images or noise.
    """
    kind = options.kind
    if not kind.denoiser:
        return LoadedPurifier(kind.build(None, options.steps, options.runs), None)
    source = options.diffusion_source
    if source is None:
        tried = ", ".join(DIFFUSION_FILES.get(options.dataset, ()))
        ours, what = OUR_DIFFUSION.get(options.dataset, ("", ""))
        raise UserError(
            f"no diffusion model for {options.dataset}{f' (looked for {tried})' if tried else ''}: "
            "name one with --diffusion"
            + (f" ({ours} is {what})" if ours and Path(ours).is_file() else "")
            + ", or use --purifier none"
        )
    denoiser, set_key, note = load_diffusion(
        source, sigma, images.info, options.used_convention, options.pad, options.unsafe_load
    )
    purifier = kind.build(denoiser, options.steps, options.runs)
    return LoadedPurifier(purifier, source, set_key, note)


class LoadedDenoiser(NamedTuple):
    """A denoiser, and which weights of its file were taken, see `Checkpoint`."""

    denoiser: Denoiser
    set_key: str = ""
    note: str = ""


def load_diffusion(
    source: str,
    sigma: float,
    info: DatasetInfo,
    convention: Convention = "diffsmooth",
    pad: str = "none",
    unsafe: bool = False,
) -> LoadedDenoiser:
    """The denoiser of a file, or of package.module:factory, for such images and such noise.

    Raises:
        UserError: missing or broken, or not made for them.
    """
    if is_code(source):
        loaded = LoadedDenoiser(foreign_denoiser(source))
    else:
        checkpoint = read_checkpoint(source, unsafe)
        denoiser = denoiser_of(checkpoint, convention, pad)
        loaded = LoadedDenoiser(denoiser, checkpoint.set_key, checkpoint.note)
    check_denoiser(loaded.denoiser, source, sigma, info)
    return loaded


def diffusion_sha256(source: str | None) -> str:
    """What a run's identity holds of a diffusion model: "" where there is none."""
    if source is None:
        return ""
    if is_code(source):
        return foreign_sha256(source)
    return path_sha256(Path(source)) if Path(source).exists() else ""
