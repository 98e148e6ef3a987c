"""Whether a journal is of the run that a manifest describes: each line of it, and all of them."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.runs.identity import stored_selection
from diffsmooth.runs.journal import Journal
from diffsmooth.runs.manifest import Manifest, ManifestError
from diffsmooth.shown_text import quoted
from diffsmooth.stats import ImageRecord, Plan
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_words import plan_of_text

DIGITS_KEPT = 1e-6  # of a table's radius; sigma was once larger by a float32's rounding
FORMAT_2 = "numerics"  # who records it writes lines of format 2


def check_same_run(journal: Journal, manifest: Manifest) -> Journal:
    """Gives back a journal; raises ManifestError for a line that is not of a manifest's run."""
    identity, digest, plan = manifest.identity, manifest.digest, _plan_of(manifest)
    selected = _selection(manifest)
    for record, line in zip(journal.records, journal.lines, strict=True):
        problem = _difference(identity, digest, plan, record)
        if selected is not None and record.index not in selected:
            problem = "is not among the images of the run"
        if problem:
            raise ManifestError(
                f"{manifest.path} is not the manifest of {journal.path}: on line {line}, image "
                f"{record.index} {problem}"
            )
    return journal


def check_whole(manifest: Manifest, indices: np.ndarray, what: Path) -> None:
    """Raises ManifestError unless a run's images are exactly those that its manifest tells.

    Args:
        manifest: what the run is; one that does not tell is content with any images.
        indices: int64 (M,), all different.
        what: the file that they are from.
    """
    selected = _selection(manifest)
    if selected is None:
        return
    for index in indices.tolist():
        if index not in selected:
            raise ManifestError(
                f"{manifest.path} is not the manifest of {what}: image {index} is not among the "
                "images of the run"
            )
    missing = len(selected) - len(indices)
    if missing:
        raise ManifestError(
            f"{what}: {missing} of the {len(selected)} images that {manifest.path} tells are "
            "missing: the command of the run certifies them"
        )


def check_possible(manifest: Manifest, radii: np.ndarray, lines: np.ndarray, what: Path) -> None:
    """Raises ManifestError for a radius that a run's votes cannot certify.

    It is all that a table without its journal can be asked.

    Args:
        manifest: what the run is; one that does not tell is content with any.
        radii: float64 (M,), l2, in [0, 1] pixel units.
        lines: int64 (M,), that they stand on.
        what: the file that they are from.
    """
    plan, sigma = _plan_of(manifest), manifest.identity.get("sigma")
    if plan is None or sigma is None:
        return
    if type(sigma) not in (int, float) or not 0 < sigma < math.inf:
        raise ManifestError(f"{manifest.path}: not a manifest (sigma is {quoted(sigma)})")
    largest = plan.nothing(sigma).max_radius
    beyond = np.flatnonzero(radii > largest + DIGITS_KEPT)
    if len(beyond):
        raise ManifestError(
            f"{what}, line {lines[beyond[0]]}: radius is {radii[beyond[0]]}, but the plan in "
            f"{manifest.path} can give {largest} at most"
        )


def _selection(manifest: Manifest) -> Collection[int] | None:
    try:
        listed = stored_selection(manifest.identity)
        return frozenset(listed) if isinstance(listed, list) else listed
    except UserError as error:
        raise ManifestError(f"{manifest.path}: not a manifest ({error})") from error


def _plan_of(manifest: Manifest) -> Plan | None:
    if "plan" not in manifest.identity:
        return None
    try:
        return plan_of_text(manifest.identity["plan"])
    except ValueError as error:
        raise ManifestError(f"{manifest.path}: not a manifest ({error})") from error


def _difference(
    identity: Mapping[str, Any], digest: str, plan: Plan | None, record: ImageRecord
) -> str:
    """In what a line is not of the run, in words; "" if in nothing."""
    origin, certificate = record.origin, record.certificate
    if origin is not None and origin.identity != digest:
        return f"is of the run {origin.identity}, the manifest of {digest}"
    if origin is None and FORMAT_2 in identity:
        return "has a line of format 1, which no run of such a manifest writes"
    if "command" in identity and (identity["command"] == "attack") != (record.attack is not None):
        is_not = "is" if record.attack is not None else "is not"
        return f"{is_not} of an attack, the manifest is of {identity['command']!r}"
    said: dict[str, object] = {"sigma": certificate.sigma}
    if origin is not None:
        said |= {"noise_source": origin.noise_source, "image_shape": [*origin.image_shape]}
    for name, value in said.items():
        if identity.get(name) is not None and identity[name] != value:
            return f"has {name} {value!r}, the manifest {identity[name]!r}"
    return "" if plan is None else _other_plan(plan, record)


def _other_plan(plan: Plan, record: ImageRecord) -> str:
    """What of a certificate another plan than this one gives, in words; "" if nothing."""
    certificate = record.certificate
    asked = plan.nothing(certificate.sigma)
    names = ["plan", "alpha", "max_n", "grid", "tolerance"]
    if certificate.first_look:  # format 1 does not always tell
        names.append("first_look")
    for name in names:
        told, wanted = getattr(certificate, name), getattr(asked, name)
        if told != wanted:
            return f"has {name} {told!r}, the manifest's plan {wanted!r}"
    if certificate.status != "failed" and certificate.n0 != plan.n0:
        return f"has n0 {certificate.n0}, the manifest's plan {plan.n0}"
    if certificate.status == "skipped" and not plan.label_aware:
        return "was skipped, but the manifest's plan skips none"
    return ""
