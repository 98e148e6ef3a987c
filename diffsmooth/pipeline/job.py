"""From options to a job, of images, networks, identity and trainer; and its run on all ranks."""

import atexit
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from diffsmooth.lit.certification import (
    CertificationModule,
    Preparation,
    Progress,
    RunKeeper,
    StopOnSigterm,
)
from diffsmooth.lit.certification.ranks import LostRank
from diffsmooth.lit.certification.run_keeper import find_wrong_image
from diffsmooth.lit.data import ImageSet, load_images
from diffsmooth.lit.launching import Launcher
from diffsmooth.lit.stopping import FAILED, PARENT, USER_ERROR, speak_at_once
from diffsmooth.models.checkpoints.sources import read_classifier
from diffsmooth.models.smoothing.fixed_function import FixedFunction
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.memory import OutOfMemory, memory_for
from diffsmooth.models.smoothing.noise_sources import source_word, stored_name
from diffsmooth.models.smoothing.precision import fix_numerics, resolve_precision
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import USUAL_BATCH
from diffsmooth.pipeline.announcement import Announcement
from diffsmooth.pipeline.batch_choice import chosen_batch
from diffsmooth.pipeline.classifier_choice import choose_classifier
from diffsmooth.pipeline.device import choose_compile, choose_norms
from diffsmooth.pipeline.identity import Command, asked_identity, chosen_skip, start_of
from diffsmooth.pipeline.inputs import Inputs, reading_for
from diffsmooth.pipeline.networks import Networks
from diffsmooth.pipeline.noise_choice import choose_noise
from diffsmooth.pipeline.output_checks import check_folder
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.pipeline.sanity import check_sanity
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.pipeline.this_start import this_start
from diffsmooth.pipeline.trainer import build_trainer, threads_a_process
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.outputs import Outputs, Problem, binds_nobody
from diffsmooth.stats import ImageRecord, Plan
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import ordinal
from diffsmooth.terminal import for_terminal

TELL_SECONDS = 10.0  # in which ranks that have lost rank zero ask it why


class Work:
    """What a run does with its images: it votes on them as they are."""

    def voted_on(self, images: ImageSet) -> ImageSet:
        """What the run's items are."""
        return images

    def taken(self, options: SmoothingOptions, items: int) -> str:
        """What of the images it takes, in words."""
        skip = options.skip or 1
        of = "all taken" if skip == 1 else f"every {ordinal(skip)} taken: {items:,}"
        return of if options.max < 0 else f"{of}, before number {options.max:,}"

    def identity(self, asked: RunIdentity) -> RunIdentity:
        """The identity of the run, from that of one that votes on the images as they are.

        After `voted_on`.
        """
        return asked

    def noise(self, stored: str | None, images: ImageSet, indices: list[int], level: float) -> str:
        """What manifests call the source of the votes' noise; see `choose_noise`."""
        return stored_name(choose_noise(stored, images, indices, level))

    def prepare(self, f: VoteFunction, identity: RunIdentity) -> None:
        """Makes f ready for many votes, in place, on its device, as the run has it."""
        prepare(f, bool(identity.compile), bool(identity.norms), identity.kernels)

    def probed(self, selection: Sequence[int]) -> Sequence[int]:
        """The items, the first few of which f is tried on."""
        return selection

    def module(
        self,
        f: VoteFunction,
        plan: Plan,
        images: ImageSet,
        share: list[int],
        command: Command,
        options: SmoothingOptions,
        noise: str,
    ) -> CertificationModule:
        """What votes on this process's share of the items, on noise of a source's stored name."""
        return CertificationModule(
            f,
            plan,
            images,
            share,
            command,
            options.split,
            options.seed,
            source_word(noise),
            options.in_flight,
        )

    def find_problem(self, images: ImageSet, records: Sequence[ImageRecord]) -> Problem | None:
        """The first record that is not of the run's data."""
        return find_wrong_image(images, records)


class Job(NamedTuple):
    """A certification, prediction or attack run, ready to start."""

    module: CertificationModule
    trainer: pl.Trainer
    run_keeper: RunKeeper

    @property
    def files(self) -> OutputFiles:
        """The names of the run's files."""
        return self.run_keeper.outputs.files


def build_job(
    options: SmoothingOptions, command: Command, plan: Plan, work: Work | None = None
) -> Job:
    """Loads everything that a run needs, and writes nothing.

    Args:
        options, command, plan: which run.
        work: what it does with its images.

    Raises:
        UserError: a user's mistake.
    """
    work = work or Work()
    trainer = build_trainer(options.check_inputs())
    device = trainer.strategy.root_device
    checkpoint = read_classifier(options.classifier, options.weights, options.unsafe_load)
    reading = reading_for(checkpoint, options)
    images = load_images(options.dataset, options.data_root, options.split, reading)
    # Of several hosts each would decide for itself whether the files bind.
    anew = options.overwrite or (options.num_nodes == 1 and binds_nobody(options.files))
    skip = chosen_skip(options.skip, len(images), options.files, anew)
    is_skip_told = options.skip is not None
    options = replace(options, skip=skip)
    inputs = Inputs(checkpoint, images)
    purifier = load_purifier(options, options.sigma, images)
    voted_on = work.voted_on(images)
    asked = work.identity(asked_identity(options, command, plan, inputs, purifier, device))
    selection = list(asked.selection)
    if not selection:
        raise UserError(f"no image is left with skip {options.skip} and max {options.max}")
    identity, is_first = start_of(options.files, anew, asked)
    is_untried = is_first or binds_nobody(options.files)
    precision = identity.precision or resolve_precision("auto", device.type)
    fix_numerics(precision, identity.kernels)
    options = replace(options, normalize=identity.input_layer or "auto")
    classifier = choose_classifier(options, options.local_noise_sd, inputs, device)
    networks = Networks(images, classifier, purifier)
    f = networks.vote_function(
        options, options.m, options.local_noise_sd, identity.batch or 1, precision
    )
    f.batch = identity.batch or chosen_batch(USUAL_BATCH[command], plan.max_votes, f, device)
    votes = plan.max_votes * len(selection)
    compiled = choose_compile(identity.compile, f, device, votes)
    identity = replace(
        identity,
        input_layer=networks.classifier.input_layer,
        threads=identity.threads or threads_a_process(options.devices),
        batch=f.batch,
        noise_source=work.noise(identity.noise_source, images, selection, f.noise_level),
        precision=precision,
        compile=compiled,
        norms=choose_norms(identity.norms, f, device, compiled),
    )

    shard = options.own_shard
    share = shard.share_of(selection) if shard else selection
    outputs = Outputs(options.files, identity, shard)
    announcement = Announcement(
        options,
        identity,
        networks,
        plan,
        device,
        work.taken(options, len(selection)),
        len(share),
        is_first,
        is_skip_told,
    )

    def check() -> None:
        check_folder("logdir", Path(options.logdir))
        data, *others = announcement.lines()
        print(for_terminal("\n".join([data, *images.notes, *networks.notes, *others])))
        if options.sanity_check and is_untried:
            print(check_sanity(f, images, votes, options.seed, device), end="")

    @cache  # to read a long journal takes a while
    def done() -> set[int]:
        return outputs.done().intersection(share)

    def tell(fixed: FixedFunction | None) -> None:
        line = announcement.votes(len(done()), fixed, trainer.world_size)
        print(for_terminal(line), flush=True)

    context = RunContext(
        options.devices,
        options.num_nodes,
        options.accelerator,
        options.classifier,
        str(networks.purifier.source or ""),
        options.data_root,
        options.shard or "",
        options.dataset,
        options.image_size,
        options.exif,
        options.weights,
        **this_start(device),
    )
    noise = str(identity.noise_source)
    module = work.module(f, plan, voted_on, share, command, options, noise)
    preparation = Preparation(
        lambda f: work.prepare(f, identity),
        identity.threads,
        work.probed(identity.selection),
        check,
        lambda: len(done()) < len(share),
        tell,
        options.dry_run,
    )
    run_keeper = RunKeeper(outputs, context, options.overwrite, work.find_problem)
    # In this order: the trainer is older, since it knows the device.
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    progress = [] if options.quiet else [Progress()]
    callbacks[:0] = [preparation, run_keeper, *progress, StopOnSigterm()]
    return Job(module, trainer, run_keeper)


def _end_together(job: Job, started: Launcher | None, error: BaseException) -> None:
    """As a rank ends: of processes that we started the launcher ends the others, and knows why.

    Those of srun and torchrun tell each other: the highest code of all is the job's for srun, and
    that of a rank that has lost the others is one to try again.

    Raises:
        LostRank: another rank has told of its own error before, and says it.
    """
    has_shared = hasattr(job.module, "shared")  # not before `setup`
    tells = has_shared and job.trainer.world_size > 1 and PARENT not in os.environ
    if started is not None and started.procs and isinstance(error, LostRank):
        error.told = started.told()
    elif tells and isinstance(error, Exception) and not isinstance(error, LostRank):
        code = USER_ERROR if isinstance(error, UserError) else FAILED
        is_first = job.module.shared.tell(code)
        if job.trainer.is_global_zero:  # the store ends with this process
            atexit.register(time.sleep, TELL_SECONDS)
        if not is_first:
            raise LostRank("another process says why", code) from error
        speak_at_once()
    elif tells and isinstance(error, LostRank) and error.told and job.trainer.is_global_zero:
        atexit.register(time.sleep, TELL_SECONDS)
    if started is not None:
        started.end()


def run_job(job: Job, command: str = "") -> list[ImageRecord] | None:
    """Runs all images that are not done yet and writes the table, unless this is but a shard.

    `command` is said before what is said of a lost rank.

    Returns:
        All records on rank zero, by ascending index; None on the other ranks.

    Raises:
        LostRank: another rank has ended; `told` is the exit code if that one has said why.
    """
    launcher = job.trainer.strategy.launcher
    started = launcher if isinstance(launcher, Launcher) else None
    if started is not None:
        started.command = command
    try:
        with memory_for(job.module.f.batch):  # networks go to their device here
            job.trainer.predict(job.module, return_predictions=False)
    except BaseException as error:
        _end_together(job, started, error)
        if isinstance(error, OutOfMemory) and job.run_keeper.outputs.done():
            raise OutOfMemory(
                f"{error}; but the run was begun with this batch: free the device's memory, or "
                "choose another outfile"
            ) from error
        raise
    if started is not None:
        started.release()  # what happens to the others does no harm any more
    return job.run_keeper.records
