"""From options to a job that is ready to run: images, networks, identity, trainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl

from diffsmooth.lit.certification import (
    CertificationModule,
    Preparation,
    Progress,
    RunKeeper,
    StopOnSigterm,
)
from diffsmooth.lit.data import load_images
from diffsmooth.models import LocalSmoothing, SmoothedClassifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import noise_source
from diffsmooth.models.smoothing.precision import fix_numerics, resolve_precision
from diffsmooth.pipeline.compiling import choose_compile
from diffsmooth.pipeline.first_start import earlier_choices, fixed_fields
from diffsmooth.pipeline.networks import (
    choose_classifier,
    find_diffusion,
    load_purifier,
    reading_for,
)
from diffsmooth.pipeline.output_checks import check_folder, check_no_input, data_files
from diffsmooth.pipeline.sanity import check_sanity
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.pipeline.trainer import build_trainer, threads_a_process
from diffsmooth.runs.identity import RunIdentity, selection_of
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.shown_text import shown
from diffsmooth.stats import Plan
from diffsmooth.stats.errors import UserError, option_values


class Job(NamedTuple):
    """A certification or prediction run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    run_keeper: RunKeeper

    @property
    def files(self) -> OutputFiles:
        """The names of the run's files."""
        return self.run_keeper.outputs.files


def build_job(options: SmoothingOptions, command: Literal["certify", "predict"], plan: Plan) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Raises:
        UserError: a user's mistake.
    """
    files = OutputFiles(options.outfile)
    diffusion_file = find_diffusion(options.dataset, options.diffusion)
    check_no_input(
        (*files.results, files.manifest, files.parts),
        [options.classifier, diffusion_file, *data_files(options.dataset, options.data_root)],
    )
    trainer = build_trainer(options)
    device = trainer.strategy.root_device
    given = _given_choices(options, device.type)
    with option_values():
        noise_source(options.noise, device)
    checkpoint = read_checkpoint(options.classifier, options.unsafe_load, options.weights)
    reading = reading_for(checkpoint, options.image_size, options.exif)
    images = load_images(options.dataset, options.data_root, options.split, reading)
    selection = list(selection_of(len(images), options.skip, options.max))
    if not selection:
        raise UserError(f"no image is left with skip {options.skip} and max {options.max}")
    asked = fixed_fields(options, command, plan, checkpoint, images, device)
    chosen = earlier_choices(files, asked | given, options.overwrite)
    precision = given.get("precision") or chosen.get("precision")
    precision = precision or resolve_precision("auto", device.type)
    fix_numerics(precision)
    if options.normalize == "auto" and chosen.get("input_layer"):
        options = replace(options, normalize=chosen["input_layer"])
    classifier = choose_classifier(options, options.local_noise_sd, checkpoint, images, device)
    purifier, diffusion, diffusion_set, note = load_purifier(options, options.sigma, images)
    with option_values():
        local = LocalSmoothing(
            classifier.model,
            options.m,
            options.local_noise_sd,
            images.info.image_shape,
            options.local_seed,
        )
        batch = asked["batch"]
        smoothed = SmoothedClassifier(
            purifier, local, options.sigma, classifier.num_classes, batch, precision, copy=False
        )
    votes = plan.max_votes * len(selection)
    compiled = choose_compile(
        options.compile, chosen.get("compile"), smoothed.f, device, votes // options.processes
    )
    threads = options.threads or chosen.get("threads") or threads_a_process(options.devices)
    identity = RunIdentity(
        **asked,
        diffusion_set=diffusion_set,
        input_layer=classifier.input_layer,
        threads=threads,
        precision=precision,
        compile=compiled,
    )
    if options.part:
        selection = options.part.part_of(selection)

    def check() -> None:
        check_folder("logdir", Path(options.logdir))
        print(images.describe())
        for line in (*classifier.said, note):
            if line:
                print(shown(line))
        auto = {"precision": options.precision == "auto", "compile": options.compile == "auto",
                "threads": options.threads is None}  # fmt: skip
        taken = [f"{name} {getattr(identity, name)}" for name, own in auto.items() if own]
        if diffusion and options.diffusion is None:
            taken.append(f"diffusion {shown(diffusion)}")
        if taken:
            print(f"chosen automatically: {', '.join(taken)}")
        if options.sanity_check and not chosen:
            found = check_sanity(smoothed.f, images, votes, options.seed, device)
            if found is not None:
                print(f"sanity check: accuracy of single votes {found}")

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
    module = CertificationModule(
        smoothed,
        plan,
        images,
        selection,
        command,
        options.split,
        options.seed,
        options.noise,
        options.in_flight,
    )
    preparation = Preparation(
        lambda f: prepare(f, compiled),
        threads,
        identity.selection,
        check,
        lambda: not outputs.holds(selection),
    )
    run_keeper = RunKeeper(outputs, context, options.overwrite)
    # In this order: the trainer is older, since it knows the device.
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:0] = [preparation, run_keeper, Progress(), StopOnSigterm()]
    return Job(module, trainer, run_keeper)


def _given_choices(options: SmoothingOptions, device_type: str) -> dict[str, Any]:
    """The fields of the identity that a run may choose itself, but is told by these options."""
    given: dict[str, Any] = {}
    if options.normalize != "auto":
        given["input_layer"] = options.normalize
    if options.precision != "auto":
        with option_values():
            given["precision"] = resolve_precision(options.precision, device_type)
    if options.threads is not None:
        given["threads"] = options.threads
    if options.compile != "auto":
        given["compile"] = options.compile
    return given
