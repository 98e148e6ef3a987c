"""From options to a job that is ready to run: images, networks, identity, trainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from diffsmooth.cli.compiling import choose_compile
from diffsmooth.cli.errors import option_values
from diffsmooth.cli.networks import (
    choose_classifier,
    load_purifier,
    reading_for,
    show_input_layers,
)
from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.cli.output_checks import check_folder
from diffsmooth.cli.sanity import check_sanity
from diffsmooth.cli.trainer import build_trainer, threads_a_process
from diffsmooth.lit.certification import CertificationModule, Work
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.sources import KNOWN
from diffsmooth.lit.identity import file_sha256, hardware_name
from diffsmooth.lit.outputs import Outputs, RunContext
from diffsmooth.models import LocalSmoothing, SmoothedClassifier
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.inference import prepare
from diffsmooth.models.noise import noise_source
from diffsmooth.models.precision import fix_numerics, resolve_precision
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.manifest import ManifestError, read_manifest
from diffsmooth.runs.names import OutputFiles
from diffsmooth.stats import Plan
from diffsmooth.stats.errors import UserError


class Job(NamedTuple):
    """A certification or prediction run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    files: OutputFiles


def build_job(options: SmoothingOptions, command: Literal["certify", "predict"], plan: Plan) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Raises:
        UserError: a user's mistake.
    """
    files = OutputFiles(options.outfile)
    chosen = _chosen_before(files, options, plan)
    trainer = build_trainer(options)
    device = trainer.strategy.root_device
    precision = options.precision
    if precision == "auto":
        precision = chosen.get("precision", precision)
    with option_values():
        precision = resolve_precision(precision, device.type)
        source = noise_source(options.noise, device).name
    fix_numerics(precision)
    checkpoint = read_checkpoint(options.classifier, options.unsafe_load)
    reading = reading_for(checkpoint, options.image_size, options.exif)
    images = load_images(options.dataset, options.data_root, options.split, reading)
    if options.normalize == "auto" and chosen.get("input_layer"):
        options = replace(options, normalize=chosen["input_layer"])
    classifier = choose_classifier(options, options.local_noise_sd, checkpoint, images, device)
    purifier, diffusion = load_purifier(options, options.sigma, images)
    batch = min(options.batch, plan.max_votes)
    with option_values():
        local = LocalSmoothing(
            classifier.model,
            options.m,
            options.local_noise_sd,
            images.info.image_shape,
            options.local_seed,
        )
        smoothed = SmoothedClassifier(
            purifier, local, options.sigma, classifier.num_classes, batch, precision, copy=False
        )
    identity = RunIdentity(
        command=command,
        dataset=images.info.name,
        split=options.split,
        data=images.fingerprint(),
        size=len(images),
        content="",  # below, when the selection is known
        skip=options.skip,
        max=options.max,
        classifier=file_sha256(options.classifier),
        diffusion=file_sha256(diffusion) if diffusion else "",
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
        noise_source=source,
        hardware=hardware_name(device),
        image_shape=images.info.image_shape,
        class_names=() if options.dataset in KNOWN else images.info.class_names,
        torch=torch.__version__,
        numpy=np.__version__,
    )
    selection = identity.selection
    if not selection:
        raise UserError(f"no image is left with skip {options.skip} and max {options.max}")
    votes = plan.max_votes * len(selection)
    compiled = choose_compile(
        options.compile, chosen.get("compile"), smoothed, device, votes // options.processes
    )
    identity = replace(identity, compile=compiled, content=images.content(selection))
    if options.part:
        selection = options.part.part_of(selection)

    def check() -> None:
        check_folder("logdir", Path(options.logdir))
        print(images.describe())
        show_input_layers(classifier)
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


def _chosen_before(files: OutputFiles, options: SmoothingOptions, plan: Plan) -> dict[str, Any]:
    """The identity of the run's first start: what it chose of its own accord binds the later ones.

    Empty where there is none, or where --overwrite is about to replace another run.
    """
    try:
        manifest = read_manifest(files.manifest)
    except ManifestError:
        if not options.overwrite:
            raise
        return {}
    stored = {} if manifest is None else dict(manifest.identity)
    asked = {
        "plan": str(plan),
        "split": options.split,
        "skip": options.skip,
        "max": options.max,
        "purifier": options.purifier,
        "sigma": options.sigma,
        "m": options.m,
        "sigma_local": options.local_noise_sd,
        "seed": options.seed,
        "local_seed": options.local_seed,
    }
    other = any(stored.get(name) != value for name, value in asked.items())
    return {} if options.overwrite and other else stored
