"""The options of a run that is there already: its manifest tells them, but chooses no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from diffsmooth.lit.data.names import DATASETS, ExifChoice
from diffsmooth.models.smoothing.purifier_kinds import purifier_kind
from diffsmooth.pipeline.option_records import OptionRecord, option
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code


@dataclass(frozen=True, kw_only=True)
class WhereItLies(OptionRecord):
    """A run's images and networks, where its manifest does not tell them or names code."""

    dataset: str | None = option(None, "the run's images, where they are not what its manifest "
        "says")  # fmt: skip
    data_root: str | None = option(None, "folder of a known dataset, where it has moved")
    image_size: int | None = option(None, "as in the run, where its manifest does not tell it",
        least=1)  # fmt: skip
    exif: ExifChoice | None = option(None, "as in the run, where its manifest does not tell it")
    classifier: str | None = option(None, "the run's classifier, where it does not lie where the "
        "manifest says, or is your code", shipped=True)  # fmt: skip
    weights: str | None = option(None, "as in the run, where its manifest does not tell it, or the "
        "file has moved")  # fmt: skip
    arch: str | None = option(None, "as in the run, where it is your code")
    purifier: str | None = option(None, "as in the run, where it is your code")
    diffusion: str | None = option(None, "the run's diffusion model, where it does not lie where "
        "the manifest says, or is your code", shipped=True)  # fmt: skip
    unsafe_load: bool = option(False, "run code that a checkpoint may hold; only for files that "
        "you trust")  # fmt: skip


def stored_options(
    identity: RunIdentity, context: Mapping[str, Any], given: WhereItLies
) -> dict[str, Any]:
    """Images, networks and smoothing of a run, as `SmoothingOptions` takes them.

    Args:
        identity: of the run's manifest.
        context: what its manifest tells besides.
        given: goes before what the manifest tells.

    Raises:
        UserError: the manifest does not tell, or names code, which a file does not choose.
    """

    def told(name: str, stored: object) -> str:
        word = getattr(given, name)
        if word is not None:
            return str(word)
        if not stored or type(stored) is not str:
            raise UserError(f"the manifest does not tell the {name}: give --{name}")
        if is_code(stored):
            raise UserError(
                f"the manifest names code, and a file does not choose what is run: give --{name} "
                f"{quoted(stored)} if you trust it"
            )
        if name in ("classifier", "diffusion") and not Path(stored).exists():
            raise UserError(
                f"{stored}: no such checkpoint, as seen from here; the manifest names it: give "
                f"--{name} where it lies"
            )
        return stored

    def told_or_none(name: str) -> Any:
        word = context.get(name) if getattr(given, name) is None else getattr(given, name)
        if type(word) not in (str, NoneType):
            raise UserError(f"{name} must be a word, but the manifest has {quoted(word)}")
        return word

    known = identity.dataset if identity.dataset in DATASETS else ""
    purifier = told("purifier", identity.purifier)
    classifier = told("classifier", context.get("classifier"))
    is_named = identity.arch and identity.arch != classifier
    kind = purifier_kind(purifier)
    dataset, exif = told("dataset", context.get("dataset") or known), told_or_none("exif")
    size = given.image_size
    if size is None and "image_size" in context:
        size = context["image_size"]
        if type(size) not in (int, NoneType):
            raise UserError(f"image_size must be a number, but the manifest has {quoted(size)}")
    elif size is None:
        size = _size_of_older(identity, dataset, exif)
    return {
        "dataset": dataset,
        "data_root": told("data_root", context.get("data_root")),
        "image_size": size,
        "exif": exif,
        "classifier": classifier,
        "weights": told_or_none("weights"),
        "arch": told("arch", identity.arch) if is_named else None,
        "purifier": purifier,
        "diffusion": told("diffusion", context.get("diffusion")) if kind.denoiser else None,
        "unsafe_load": given.unsafe_load,
        "split": identity.split,
        "skip": identity.skip,
        "max": identity.max,
        "sigma": identity.sigma,
        "m": identity.m,
        "local_noise_sd": identity.sigma_local,
        "local_seed": identity.local_seed,
        "normalize": identity.input_layer or "auto",
        "convention": identity.convention or None,
        "steps": identity.steps if kind.steps is not None else None,
        "runs": identity.runs if kind.reverse_runs else None,
        "pad": identity.pad,
    }


def _size_of_older(identity: RunIdentity, dataset: str, exif: ExifChoice | None) -> int | None:
    """--image_size of a run of version 0.1 or 0.2, whose manifest has the images' shape only.

    A folder whose files have one size was certified as it is: deep pixels are rounded by resizing.
    """
    from diffsmooth.lit.data import has_several_sizes  # only now: torch takes seconds

    *_, height, width = identity.image_shape or (0, 1)
    return height if height == width and has_several_sizes(dataset, identity.split, exif) else None
