"""The options of a run that is there already: its manifest tells them, but chooses no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
    image_size: int | None = option(None, "as in the run", least=1)
    exif: ExifChoice | None = option(None, "as in the run")
    classifier: str | None = option(None, "the run's classifier, where it does not lie where the "
        "manifest says, or is your code", shipped=True)  # fmt: skip
    weights: str | None = option(None, "as in the run")
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

    known = identity.dataset if identity.dataset in DATASETS else ""
    purifier = told("purifier", identity.purifier)
    classifier = told("classifier", context.get("classifier"))
    is_named = identity.arch and identity.arch != classifier
    kind = purifier_kind(purifier)
    return {
        "dataset": told("dataset", context.get("dataset") or known),
        "data_root": told("data_root", context.get("data_root")),
        "image_size": given.image_size,
        "exif": given.exif,
        "classifier": classifier,
        "weights": given.weights,
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
