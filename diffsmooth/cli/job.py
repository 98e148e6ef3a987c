"""From options to a job that is ready to run: images, networks, identity, trainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

from diffsmooth.cli.compiling import choose_compile
from diffsmooth.cli.errors import option_values
from diffsmooth.cli.networks import choose_classifier, load_purifier, show_input_layers
from diffsmooth.cli.options import SmoothingOptions
from diffsmooth.cli.output_checks import check_folder
from diffsmooth.cli.sanity import check_sanity
from diffsmooth.cli.trainer import build_trainer, threads_a_process
from diffsmooth.lit.certification import CertificationModule, Work
from diffsmooth.lit.data import load_images
from diffsmooth.lit.identity import RunIdentity, file_sha256, hardware_name
from diffsmooth.lit.outputs import OutputError, OutputFiles, Outputs, RunContext
from diffsmooth.models import LocalSmoothing, SmoothedClassifier
from diffsmooth.models.formats import read_checkpoint
from diffsmooth.models.inference import prepare
from diffsmooth.models.noise import Purpose, noise_source
from diffsmooth.models.precision import fix_numerics, resolve_precision
from diffsmooth.stats import Plan
from diffsmooth.stats.errors import UserError


class Job(NamedTuple):
    """A certification or prediction run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    files: OutputFiles


def build_job(options: SmoothingOptions, command: Purpose, plan: Plan) -> Job:
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
    shape = checkpoint.metadata.image_shape
    side = shape[-1] if shape else None
    images = load_images(options.dataset, options.data_root, options.split, side)
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
            purifier, local, options.sigma, classifier.num_classes, batch, precision
        )
    identity = RunIdentity(
        command=command,
        dataset=images.info.name,
        split=options.split,
        data=images.fingerprint(),
        size=len(images),
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
    )
    selection = identity.selection
    if not selection:
        raise UserError(f"no image is left with skip {options.skip} and max {options.max}")
    votes = plan.max_votes * len(selection)
    compiled = choose_compile(
        options.compile, chosen.get("compile"), smoothed, device, votes // options.processes
    )
    identity = replace(identity, compile=compiled)
    if options.part:
        selection = options.part.part_of(selection)

    def check() -> None:
        check_folder("logdir", Path(options.logdir))
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
        stored = files.stored_identity() or {}
    except OutputError:
        if not options.overwrite:
            raise
        return {}
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
