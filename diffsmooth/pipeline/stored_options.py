"""The options of a run that is there already, as far as its identity tells them."""

from typing import Any

from diffsmooth.models.smoothing.purifier_kinds import purifier_kind
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code


def told(name: str, given: str | None, stored: object) -> str:
    """What an option is of a run that is there already: its user's word, or else the manifest's.

    Raises:
        UserError: the manifest does not tell, or names code, which a file does not choose.
    """
    if given is not None:
        return given
    if not stored or type(stored) is not str:
        raise UserError(f"the manifest does not tell the {name}: give --{name}")
    if is_code(stored):
        raise UserError(
            f"the manifest names code, and a file does not choose what is run: give --{name} "
            f"{quoted(stored)} if you trust it"
        )
    return stored


def stored_options(identity: RunIdentity, purifier: str) -> dict[str, Any]:
    """Images, smoothing and purifier, as `SmoothingOptions` takes them.

    Args:
        identity: of the run's manifest.
        purifier: its word, which the caller has decided to believe: it may name code.
    """
    kind = purifier_kind(purifier)
    return {
        "split": identity.split,
        "skip": identity.skip,
        "max": identity.max,
        "sigma": identity.sigma,
        "m": identity.m,
        "local_noise_sd": identity.sigma_local,
        "local_seed": identity.local_seed,
        "normalize": identity.input_layer or "auto",
        "purifier": purifier,
        "convention": identity.convention or None,
        "steps": identity.steps if kind.steps is not None else None,
        "runs": identity.runs if kind.reverse_runs else None,
        "pad": identity.pad,
    }
