"""The votes of a few images of a finished run, cast again: that they were not invented.

Votes are addressed: whoever has the networks and the images gets the same ones.
"""

import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from diffsmooth.lit.certification import CertificationModule, Preparation, Progress
from diffsmooth.lit.certification.run_keeper import find_wrong_image
from diffsmooth.lit.data import load_images
from diffsmooth.lit.probes import hardware_name
from diffsmooth.models.checkpoints.sources import read_classifier
from diffsmooth.models.kernels.availability import lacking
from diffsmooth.models.smoothing.fixed_function import FixedFunction
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise_sources import source_word
from diffsmooth.models.smoothing.precision import fix_numerics
from diffsmooth.pipeline.classifier_choice import choose_classifier
from diffsmooth.pipeline.device import choose_compile, pick_device
from diffsmooth.pipeline.guest import as_a_guest, guest_trainer
from diffsmooth.pipeline.identity import asked_identity
from diffsmooth.pipeline.inputs import Inputs, reading_for
from diffsmooth.pipeline.networks import Networks
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.pipeline.stored_options import stored_options
from diffsmooth.pipeline.verify_specification import VerifyOptions
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import Journal
from diffsmooth.runs.manifest import Manifest
from diffsmooth.shown_text import quoted
from diffsmooth.stats import Certificate, FixedSampleSize, ImageRecord
from diffsmooth.stats.certificate import SparseCounts
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.printed import counted

# What may be another here than where the run was made, at the price of near-ties.
ELSEWHERE = ("hardware", "torch", "numpy", "kernels")


class Replayed(NamedTuple):
    """What came of it.

    Attributes:
        text: for the verdict.
        faults: images whose votes are others: index, field, and what is wrong with it.
    """

    text: str
    faults: tuple[tuple[int, str, str], ...]


def replay(manifest: Manifest, journal: Journal, options: VerifyOptions) -> Replayed:
    """Casts the votes of some images again, and compares.

    Args:
        manifest, journal: the run's, which follow from its votes.
        options: how many images, which seed chooses them, and where the networks lie.

    Raises:
        UserError: networks or images are missing, or are not those of the run.
    """
    device = pick_device(options.accelerator)
    identity = RunIdentity.from_stored(manifest.identity)
    asked = SmoothingOptions(
        outfile="replay",  # nothing is written
        batch=identity.batch or "auto",
        seed=identity.seed,
        noise=source_word(str(identity.noise_source)),
        precision=identity.precision or "auto",
        compile=bool(identity.compile),
        threads=identity.threads,
        **stored_options(identity, manifest.context, options),
    )
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    voted = [record for record in journal.records if not record.error]
    count = min(options.replay or 0, len(voted))
    chosen = np.random.default_rng(seed).choice(len(voted), count, replace=False)
    old = {voted[place].index: voted[place] for place in sorted(chosen)}
    with as_a_guest(device):
        module = _module(identity, asked, manifest, journal, sorted(old), device)
        # Another kernel is but another rounding, which is expected on other hardware.
        compiled, norms = bool(identity.compile), bool(identity.norms) and not lacking(device)
        preparation = Preparation(
            lambda f: prepare(f, compiled, norms), identity.threads, identity.selection
        )
        trainer = guest_trainer(device, [preparation, Progress()])
        with memory_for(module.f.batch):
            trainer.predict(module, return_predictions=False)
            why = _why_votes_may_tip(manifest, module.fixed, device)
            again = _as_many(module, old, device) if why else module.records
    return _compared(old, again, seed, why, options.tipped)


def _as_many(
    module: CertificationModule, old: Mapping[int, ImageRecord], device: torch.device
) -> list[ImageRecord]:
    """What was voted again, with as many votes of each image as the run has of it.

    By a vote that tipped a sequential plan may stop elsewhere; the votes from there on are looked
    at all the same, for they may be invented.
    """
    records = {record.index: record for record in module.records}
    wanted = {
        index: old[index].certificate.n
        for index, record in records.items()
        if not record.error and old[index].certificate.n not in (0, record.certificate.n)
    }
    for n in sorted(set(wanted.values())):
        more = CertificationModule(
            module.f, FixedSampleSize(module.plan.n0, n, module.plan.alpha), module.images,
            [index for index in wanted if wanted[index] == n], module.purpose, module.split,
            module.seed, module.noise,
        )  # fmt: skip
        guest_trainer(device, [Progress()]).predict(more, return_predictions=False)
        records |= {record.index: record for record in more.records}
    return list(records.values())


def _module(
    identity: RunIdentity,
    options: SmoothingOptions,
    manifest: Manifest,
    journal: Journal,
    chosen: Sequence[int],
    device: torch.device,
) -> CertificationModule:
    """What casts the votes of the chosen images, on the run's identity."""
    checkpoint = read_classifier(options.classifier, options.weights, options.unsafe_load)
    reading = reading_for(checkpoint, options)
    images = load_images(options.dataset, options.data_root, options.split, reading)
    inputs, purifier = Inputs(checkpoint, images), load_purifier(options, options.sigma, images)
    plan = plan_of_text(identity.plan)
    asked = asked_identity(options, identity.command, plan, inputs, purifier, device)
    stored = {name: value for name, value in manifest.identity.items() if name not in ELSEWHERE}
    difference = asked.difference(stored)
    if difference:
        raise UserError(f"{manifest.path}: not the networks and images of the run ({difference})")
    problem = find_wrong_image(images, journal.records)
    if problem:
        raise UserError(f"{journal.path}: image {problem.record.index} {problem.text}")
    batch = identity.batch
    if batch is None:
        raise UserError(f"{manifest.path}: does not tell the batch")
    fix_numerics(options.precision)
    classifier = choose_classifier(options, identity.sigma_local, inputs, device)
    f = Networks(images, classifier, purifier).vote_function(
        options, identity.m, identity.sigma_local, batch, options.precision
    )
    choose_compile(bool(identity.compile), f, device, 0)  # whether it can be
    noise = source_word(str(identity.noise_source))
    return CertificationModule(
        f, plan, images, chosen, identity.command, identity.split, identity.seed, noise
    )


def _why_votes_may_tip(
    manifest: Manifest, fixed: FixedFunction | None, device: torch.device
) -> str:
    """Why near-ties may come out otherwise here than in the run, in words; "" if they may not."""
    if manifest.identity.get("kernels") == "timed":
        return "kernels were chosen by timing"
    here = {"hardware": hardware_name(device), "torch": torch.__version__, "numpy": np.__version__}
    for name, value in here.items():
        stored = manifest.identity.get(name)
        if stored != value:
            return f"{name} was {quoted(stored)}, is {quoted(value)}"
    assert fixed is not None
    probes = [probe for probe in manifest.probes if probe.inputs == fixed.inputs]
    if probes and all(probe.outputs != fixed.outputs for probe in probes):
        return "this machine rounds otherwise"
    return "" if fixed.exact else "rows depend on their place in the batch by rounding"


def _compared(
    old: Mapping[int, ImageRecord],
    again: Sequence[ImageRecord],
    seed: int,
    why: str,
    share: float,
) -> Replayed:
    """The verdict on images whose votes were cast again.

    Args:
        old: those that the run has written, by the image.
        again: the same images now.
        seed: of the choice.
        why: that near-ties may tip; "" wants the same counts.
        share: of an image's votes that may then differ.
    """
    faults, cast, others = list[tuple[int, str, str]](), 0, 0
    for record in again:
        was, now = old[record.index].certificate, record.certificate
        if record.error:
            faults.append((record.index, "error", f"is now {record.error}"))
            continue
        compared, tipped = _tipped(was, now)
        cast, others = cast + compared, others + tipped
        if tipped > (math.ceil(share * compared) if why else 0) or (was != now and not why):
            text = f"were {_counts(was)}, voted again they are {_counts(now)}"
            faults.append((record.index, "votes", text))
    text = f"{counted(len(again), 'image')} voted again (seed {seed}): "
    text += f"{others or 'none'} of {cast} votes "
    text += "differ" if others != 1 else "differs"
    if why:
        text += f", of which up to {share:g} an image may tip, since {why}"
    return Replayed(text, tuple(faults))


def _tipped(was: Certificate, now: Certificate) -> tuple[int, int]:
    """How many votes the run has of an image, and how many of them at least are others now.

    Where the run skipped it after its selection, that is what there is to compare.
    """
    others = _others(was.selection_counts, now.selection_counts)
    return was.n0 + was.n, others + _others(was.estimation_counts, now.estimation_counts)


def _others(was: SparseCounts, now: SparseCounts) -> int:
    """How many of equally many votes went to other classes, at least."""
    before, after = Counter(dict(was)), Counter(dict(now))
    return (before - after).total()


def _counts(certificate: Certificate) -> str:
    """Votes a class, those of the selection first."""
    parts = certificate.selection_counts, certificate.estimation_counts
    return " + ".join(
        f"{{{', '.join(f'{k}: {votes}' for k, votes in counts)}}}" for counts in parts if counts
    )
