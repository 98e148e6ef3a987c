"""From options to a job that is ready to run: images, networks, identity, trainer."""

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import lightning.pytorch as pl
import torch

from diffsmooth.cli.compiling import choose_compile
from diffsmooth.cli.network_options import MULTISTEP_STEPS
from diffsmooth.cli.networks import choose_classifier, find_diffusion, load_purifier
from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.cli.output_checks import check_folder
from diffsmooth.cli.sanity import check_sanity
from diffsmooth.cli.trainer import build_trainer, threads_a_process
from diffsmooth.lit.certification import CertificationModule, Work
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.identity import ABSENT, RunIdentity, file_sha256, hardware_name
from diffsmooth.lit.outputs import OutputError, OutputFiles, Outputs, RunContext
from diffsmooth.models import LocalSmoothing, SmoothedClassifier
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.inference import prepare
from diffsmooth.models.noise import Purpose, noise_source
from diffsmooth.models.precision import Precision, fix_numerics, resolve_precision
from diffsmooth.models.weights import Checkpoint
from diffsmooth.stats import Plan


class Job(NamedTuple):
    """A certification or prediction run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    files: OutputFiles


def build_job(options: SmoothingOptions, command: Purpose, plan: Plan) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Raises:
        ValueError: a user's mistake.
    """
    files = OutputFiles(options.outfile)
    trainer = build_trainer(options)
    device = trainer.strategy.root_device
    checkpoint = read_checkpoint(options.classifier, options.unsafe_load, options.weights)
    shape = checkpoint.metadata.image_shape
    side = shape[-1] if shape else None
    images = load_images(options.dataset, options.data_root, options.split, side)
    asked = _asked(options, command, plan, checkpoint, images, device)
    chosen = _chosen_before(files, asked, options.overwrite)
    precision = options.precision
    if precision == "auto":
        precision = chosen.get("precision", precision)
    precision = resolve_precision(precision, device.type)
    fix_numerics(precision)
    if options.normalize == "auto" and chosen.get("input_layer"):
        options = replace(options, normalize=chosen["input_layer"])
    classifier = choose_classifier(options, options.local_noise_sd, checkpoint, images, device)
    purifier, diffusion, diffusion_set, note = load_purifier(options, options.sigma, images)
    local = LocalSmoothing(
        classifier.model,
        options.m,
        options.local_noise_sd,
        images.info.image_shape,
        options.local_seed,
    )
    batch = min(options.batch, plan.max_votes)
    smoothed = SmoothedClassifier(
        purifier, local, options.sigma, classifier.num_classes, batch, precision
    )
    identity = RunIdentity(
        command=command,
        dataset=images.info.name,
        split=options.split,
        data=asked["data"],
        size=len(images),
        skip=options.skip,
        max=options.max,
        classifier=asked["classifier"],
        classifier_set=classifier.set_key,
        diffusion=asked["diffusion"],
        diffusion_set=diffusion_set,
        arch=classifier.arch,
        input_layer=classifier.input_layer,
        purifier=options.purifier,
        convention=options.matching if diffusion else "",
        steps=purifier.steps,
        runs=purifier.runs,
        pad=options.pad if diffusion else "none",
        sigma=options.sigma,
        m=options.m,
        sigma_local=options.local_noise_sd,
        seed=options.seed,
        local_seed=options.local_seed,
        plan=str(plan),
        batch=batch,
        threads=options.threads or chosen.get("threads") or threads_a_process(options.devices),
        precision=precision,
        compile=False,
        noise_source=noise_source(options.noise, device).name,
        hardware=hardware_name(device),
    )
    selection = identity.selection
    if not selection:
        raise ValueError(f"no image is left with skip {options.skip} and max {options.max}")
    votes = plan.max_votes * len(selection)
    compiled = choose_compile(
        options.compile, chosen.get("compile"), smoothed, device, votes // options.processes
    )
    identity = replace(identity, compile=compiled)
    if options.part:
        selection = options.part.part_of(selection)

    def check() -> None:
        check_folder("logdir", Path(options.logdir))
        for line in (*classifier.said, note):
            if line:
                print(line)
        auto = {"precision": options.precision == "auto", "compile": options.compile == "auto",
                "threads": options.threads is None}  # fmt: skip
        taken = [f"{name} {getattr(identity, name)}" for name, own in auto.items() if own]
        if diffusion and options.diffusion is None:
            taken.append(f"diffusion {diffusion}")
        if taken:
            print(f"chosen automatically: {', '.join(taken)}")
        if options.sanity_check and not chosen:
            found = check_sanity(smoothed, images, votes, options.seed, device)
            if found is not None:
                print(f"sanity check: accuracy of single votes {found}")

    work = Work(
        smoothed,
        plan,
        images,
        selection,
        options.noise,
        options.in_flight,
        check,
        lambda: prepare(smoothed, compiled),
    )
    context = RunContext(
        options.devices,
        options.num_nodes,
        options.accelerator,
        options.classifier,
        str(diffusion or ""),
        options.data_root,
        options.shard or "",
    )
    outputs = Outputs(files, identity, options.part)
    module = CertificationModule(work, outputs, context, options.overwrite)
    return Job(module, trainer, files)


def _asked(
    options: SmoothingOptions,
    command: Purpose,
    plan: Plan,
    checkpoint: Checkpoint,
    images: ImageSet,
    device: torch.device,
) -> dict[str, Any]:
    """The fields of the run's identity that the networks are not needed for, and no choice."""
    path = None
    if options.purifier != "none":
        path = find_diffusion(options.dataset, options.diffusion)
    diffusion = file_sha256(path) if path is not None and path.is_file() else ""
    multistep = options.purifier == "multistep"
    asked = {
        "command": command,
        "dataset": images.info.name,
        "split": options.split,
        "data": images.fingerprint(),
        "size": len(images),
        "skip": options.skip,
        "max": options.max,
        "classifier": file_sha256(options.classifier),
        "classifier_set": checkpoint.set_key,
        "diffusion": diffusion,
        "arch": options.arch or checkpoint.metadata.arch,
        "purifier": options.purifier,
        "convention": options.matching if diffusion else "",
        "steps": options.steps or (MULTISTEP_STEPS if multistep else 1),
        "runs": options.runs or 1,
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
    }
    versions = {
        field.name: field.default
        for field in fields(RunIdentity)
        if field.default is not MISSING and field.name not in ABSENT
    }
    given = {
        "input_layer": None if options.normalize == "auto" else options.normalize,
        "precision": None
        if options.precision == "auto"
        else resolve_precision(options.precision, device.type),
        "threads": options.threads,
        "compile": None if options.compile == "auto" else options.compile,
    }
    return asked | versions | {k: value for k, value in given.items() if value is not None}


def _chosen_before(files: OutputFiles, asked: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """The identity of this very run's first start: what it chose of its own accord binds the later.

    Empty where there is none, or where --overwrite is about to replace another run.

    Raises:
        OutputError: the files belong to another run, or are broken; not with --overwrite.
    """
    try:
        stored = files.stored_identity() or {}
    except OutputError:
        if not overwrite:
            raise
        return {}
    if stored and not _can_be_chosen(stored):
        if overwrite:
            return {}
        raise OutputError(f"{files.manifest}: broken; --overwrite starts anew")
    for name, value in asked.items():
        if stored and stored.get(name, ABSENT.get(name)) != value:
            if overwrite:
                return {}
            raise OutputError(
                f"{files.table} belongs to a different run ({name} was {stored.get(name)!r}, is "
                f"{value!r}): choose another outfile, or --overwrite"
            )
    return stored


def _can_be_chosen(stored: dict[str, Any]) -> bool:
    """Whether the choices in a manifest are some that a run can have made."""
    threads, layer = stored.get("threads"), stored.get("input_layer")
    return (
        stored.get("precision") in get_args(Precision)
        and stored.get("compile") in (True, False)
        and isinstance(threads, int)
        and threads >= 1
        and isinstance(layer, str)
    )
