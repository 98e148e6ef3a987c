"""The identity of a run, before its classifier is made; its first start binds the later ones."""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch

from diffsmooth.lit.data.names import DATASETS
from diffsmooth.lit.probes import hardware_name
from diffsmooth.models.checkpoints.sources import classifier_sha256
from diffsmooth.models.checkpoints.weights import network_sha256
from diffsmooth.models.smoothing.noise_sources import asked_name
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.models.words import Precision
from diffsmooth.pipeline.inputs import Inputs
from diffsmooth.pipeline.purifier_loading import LoadedPurifier, diffusion_sha256
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.runs.identity import RunIdentity, selection_of, ties_of
from diffsmooth.runs.manifest import ManifestError, read_manifest
from diffsmooth.runs.names import OutputError, OutputFiles
from diffsmooth.runs.outputs import ANEW
from diffsmooth.stats import Plan
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.registry import is_code

Command = Literal["certify", "predict", "attack"]


def asked_identity(
    options: SmoothingOptions,
    command: Command,
    plan: Plan,
    inputs: Inputs,
    purifier: LoadedPurifier,
    device: torch.device,
) -> RunIdentity:
    """What the options ask for; what they leave to the run is open."""
    checkpoint, images = inputs
    assert options.skip is not None  # see `chosen_skip`
    path, runs = options.diffusion_file, purifier.purifier.reverse_runs
    has_unet = path is not None and path.exists()
    diffusion = diffusion_sha256(options.diffusion_source)
    if is_code(options.purifier) and purifier.purifier.state_dict():  # weights of its own
        diffusion = network_sha256(f"{options.purifier} {diffusion}", purifier.purifier)
    if options.kernels == "timed" and device.type != "cuda":
        raise UserError(f"kernels timed is of CUDA devices, not of {device.type}")
    with option_values():
        precision = (
            None
            if options.precision == "auto"
            else resolve_precision(options.precision, device.type)
        )
    return RunIdentity(
        command=command,
        dataset=images.info.name,
        split=options.split,
        data=images.fingerprint(),
        size=len(images),
        content=images.content(selection_of(len(images), options.skip, options.max)),
        image_shape=images.info.image_shape,
        class_names=() if options.dataset in DATASETS else images.info.class_names,
        skip=options.skip,
        max=options.max,
        classifier=classifier_sha256(options.classifier, checkpoint, images.info.num_classes),
        classifier_set=checkpoint.set_key,
        diffusion=diffusion,
        diffusion_set=purifier.set_key,
        arch=options.arch or checkpoint.metadata.arch,
        input_layer=None if options.normalize == "auto" else options.normalize,
        purifier=options.purifier,
        convention=options.used_convention if has_unet else "",
        steps=options.steps or options.kind.steps or 1,
        runs=runs,
        ties=ties_of(runs),
        pad=options.pad if has_unet else "none",
        sigma=options.sigma,
        m=options.m,
        sigma_local=options.local_noise_sd,
        seed=options.seed,
        local_seed=options.local_seed,
        plan=str(plan),
        batch=None if options.batch == "auto" else min(options.batch, plan.max_votes),
        threads=options.threads,
        precision=precision,
        compile=None if options.compile == "auto" else options.compile,
        norms=None,
        kernels=options.kernels,
        noise_source=asked_name(options.noise),
        hardware=hardware_name(device),
        torch=torch.__version__,
        numpy=np.__version__,
    )


def start_of(files: OutputFiles, anew: bool, asked: RunIdentity) -> tuple[RunIdentity, bool]:
    """The run's identity, with what its first start chose, and whether this is that start.

    By the manifest beside the outfile.

    Args:
        files: the run's.
        anew: whether those of another may be replaced: by --overwrite, or as nothing would be lost.
        asked: what its identity is to be, as far as that is told.

    Raises:
        OutputError: the files belong to another run, or are broken, and may not be replaced.
    """
    first = (asked, True)
    try:
        manifest = read_manifest(files.manifest)
        if manifest is None:
            return first
        if not _can_be_chosen(manifest.identity):
            raise ManifestError(f"{files.manifest}: not a manifest (choices that no run can make)")
    except ManifestError as error:
        if anew:
            return first
        raise OutputError(f"{error}; {ANEW}") from error
    difference = asked.difference(manifest.identity)
    if not difference:
        return asked.adopting(manifest.identity), False
    if anew:
        return first
    raise OutputError(f"{files.table} belongs to a different run ({difference}): {ANEW}")


FEW_IMAGES = 1000  # so many are all taken; of more, every hundredth, as the published code does


def chosen_skip(skip: int | None, size: int, files: OutputFiles, anew: bool) -> int:
    """Every how many-th of so many images a run takes.

    Where the user does not say, as the run was begun: its default was 100 for all, once.
    """
    if skip is not None:
        return skip
    stored = None
    if not anew:
        with contextlib.suppress(ManifestError):  # told by who reads it next
            manifest = read_manifest(files.manifest)
            stored = None if manifest is None else manifest.identity.get("skip")
    if type(stored) is int and stored >= 1:
        return stored
    return 1 if size <= FEW_IMAGES else 100


def _can_be_chosen(stored: Mapping[str, Any]) -> bool:
    """Whether the choices in a manifest are some that a run can have made."""
    counts, layer = (stored.get("threads"), stored.get("batch")), stored.get("input_layer")
    return (
        stored.get("precision") in get_args(Precision)
        and stored.get("compile") in (True, False)
        and all(isinstance(count, int) and count >= 1 for count in counts)
        and isinstance(layer, str)
    )
