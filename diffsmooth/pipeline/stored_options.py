"""The options of a run that is there already, as far as its identity tells them."""

from typing import Any

from diffsmooth.models.smoothing.purifier_kinds import purifier_kind
from diffsmooth.runs.identity import RunIdentity


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
