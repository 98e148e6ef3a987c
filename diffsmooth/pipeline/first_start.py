"""What the first start of a run chose of its own accord binds the later ones, and no other run."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch

from diffsmooth.lit.data import ImageSet
from diffsmooth.lit.data.sources import DATASETS
from diffsmooth.lit.identity import file_sha256, hardware_name
from diffsmooth.lit.outputs import ANEW, OutputError
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.models.smoothing.noise import noise_source
from diffsmooth.models.smoothing.precision import Precision
from diffsmooth.pipeline.networks import find_diffusion
from diffsmooth.pipeline.specification import MULTISTEP_STEPS, SmoothingOptions
from diffsmooth.runs.identity import NUMERICS, difference_of, selection_of, ties_of
from diffsmooth.runs.manifest import ManifestError, read_manifest
from diffsmooth.runs.names import OutputFiles
from diffsmooth.stats import Plan


def fixed_fields(
    options: SmoothingOptions,
    command: Literal["certify", "predict"],
    plan: Plan,
    checkpoint: Checkpoint,
    images: ImageSet,
    device: torch.device,
) -> dict[str, Any]:
    """The fields of a `RunIdentity` that are no choice, and that no network is needed for."""
    path = None
    if options.purifier != "none":
        path = find_diffusion(options.dataset, options.diffusion)
    diffusion = file_sha256(path) if path is not None and path.is_file() else ""
    steps = MULTISTEP_STEPS if options.purifier == "multistep" else 1
    return {
        "command": command,
        "dataset": images.info.name,
        "split": options.split,
        "data": images.fingerprint(),
        "size": len(images),
        "content": images.content(selection_of(len(images), options.skip, options.max)),
        "image_shape": images.info.image_shape,
        "class_names": () if options.dataset in DATASETS else images.info.class_names,
        "skip": options.skip,
        "max": options.max,
        "classifier": file_sha256(options.classifier),
        "classifier_set": checkpoint.set_key,
        "diffusion": diffusion,
        "arch": options.arch or checkpoint.metadata.arch,
        "purifier": options.purifier,
        "convention": options.matching if diffusion else "",
        "steps": options.steps or steps,
        "runs": options.runs or 1,
        "ties": ties_of(options.runs or 1),
        "pad": options.pad if diffusion else "none",
        "sigma": options.sigma,
        "m": options.m,
        "sigma_local": options.local_noise_sd,
        "seed": options.seed,
        "local_seed": options.local_seed,
        "plan": str(plan),
        "batch": min(options.batch, plan.max_votes),
        "noise_source": noise_source(options.noise, device).name,
        "hardware": hardware_name(device),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numerics": NUMERICS,
    }


def earlier_choices(
    files: OutputFiles, asked: Mapping[str, Any], overwrite: bool
) -> Mapping[str, Any]:
    """The identity of this very run's first start, as it is stored.

    Args:
        files: of the run.
        asked: fields of its identity; those that it is to choose itself are left out.
        overwrite: whether the files of another run may be replaced.

    Returns:
        Empty where there was no start, or where --overwrite is about to replace another run.

    Raises:
        OutputError: the files belong to another run, or are broken; not with --overwrite.
    """
    try:
        manifest = read_manifest(files.manifest)
        if manifest is None:
            return {}
        if not _can_be_chosen(manifest.identity):
            raise ManifestError(f"{files.manifest}: not a manifest (choices that no run can make)")
    except ManifestError as error:
        if overwrite:
            return {}
        raise OutputError(f"{error}; {ANEW}") from error
    difference = difference_of(asked, manifest.identity)
    if not difference:
        return manifest.identity
    if overwrite:
        return {}
    raise OutputError(
        f"{files.table} belongs to a different run ({difference}): choose another outfile, or "
        "--overwrite"
    )


def _can_be_chosen(stored: Mapping[str, Any]) -> bool:
    """Whether the choices in a manifest are some that a run can have made."""
    threads, layer = stored.get("threads"), stored.get("input_layer")
    return (
        stored.get("precision") in get_args(Precision)
        and stored.get("compile") in (True, False)
        and isinstance(threads, int)
        and threads >= 1
        and isinstance(layer, str)
    )
