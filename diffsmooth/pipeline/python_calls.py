"""`diffsmooth.certify` and `diffsmooth.predict`: the commands' run, on what lies in memory."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import lightning.pytorch as pl
import numpy as np
import torch

from diffsmooth.lit.certification import CertificationModule, Preparation, Progress, RunKeeper
from diffsmooth.lit.data.given import GivenImages
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise_sources import stored_name
from diffsmooth.models.smoothing.precision import fix_numerics
from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
from diffsmooth.models.smoothing.vote_function import copied
from diffsmooth.models.words import Noise
from diffsmooth.pipeline.call_identity import (
    Call,
    Compile,
    called_context,
    called_identity,
    check_known_again,
)
from diffsmooth.pipeline.device import choose_compile, choose_norms
from diffsmooth.pipeline.guest import as_a_guest, guest_trainer
from diffsmooth.pipeline.identity import start_of
from diffsmooth.pipeline.noise_choice import choose_noise, inexact
from diffsmooth.runs.journal import merge_records
from diffsmooth.runs.names import TABLES, OutputFiles
from diffsmooth.runs.outputs import Outputs, binds_nobody
from diffsmooth.stats import FixedSampleSize, ImageRecord, MajorityVote, Plan, Results
from diffsmooth.stats.errors import UserError, option_values
from diffsmooth.stats.plan_making import check_plan


def certify(
    g: SmoothedClassifier,
    images: Any,
    labels: Any = None,
    indices: Any = None,
    dataset: str = "",
    split: str = "",
    plan: Plan = FixedSampleSize(),
    seed: int = 0,
    noise: Noise = "auto",
    compile: Compile = "auto",
    journal: Path | str | None = None,
    progress: bool = True,
) -> Results:
    """Certified radii of images, as `diffsmooth certify` computes them, on the device of g.

    A prepared copy votes; g stays as it is, and so does the process, see `as_a_guest`. Ctrl-C
    raises KeyboardInterrupt; what is finished by then stays in the journal.

    Args:
        g: the smoothed classifier.
        images: N of them, see `GivenImages`: a tensor or an array, float in [0, 1] or uint8, or a
            dataset, which is read once, into memory.
        labels: integers (N,); None where they are not known: then no accuracy is, either.
        indices: integers (N,), all different; 0 .. N - 1 by default. With seed, dataset and split,
            an image's index names its noise: the same ones give the command's votes at the same
            batch, threads, precision and compile.
        dataset, split: names, of which two runs on the same noise need the same ones.
        plan: how many votes an image gets, and what is concluded.
        seed: of the votes' noise.
        noise: its source: integer (exact, for images of 8 bits), float or device; "auto" is integer
            where the images allow it, else float, and a warning says why.
        compile: whether torch.compile fuses the networks; "auto" decides by the votes ahead.
        journal: OUT, to keep OUT.txt, OUT.jsonl and OUT.manifest.json as the command does; the same
            call goes on where it stopped, and any other is refused.
        progress: whether it is shown on stderr.

    Returns:
        By ascending index. Images that failed count as not certified; a warning names the first.

    Raises:
        UserError: what is given cannot be; the networks are no fixed function, or cannot vote; or
            the journal is of another run; or the plan's own author made a mistake, `check_plan`.
    """
    if not isinstance(plan, Plan) or not plan.certifies:
        raise UserError(f"plan must be one that gives radii, got {plan!r}")
    check_plan(plan)
    given = _given(g, images, labels, indices, dataset)
    if plan.label_aware and not given.is_labelled:
        raise UserError(f"plan {plan}: it skips images by their labels, and there are none")
    call = Call("certify", g, given, split, plan, seed, noise, compile)
    return Results.from_records(_run(call, journal, progress))


def predict(
    g: SmoothedClassifier,
    images: Any,
    n: int = 1000,
    alpha: float = 1e-3,
    seed: int = 0,
    indices: Any = None,
    dataset: str = "",
    split: str = "",
    noise: Noise = "auto",
    compile: Compile = "auto",
    progress: bool = True,
) -> np.ndarray:
    """Classes of images (Cohen et al.'s PREDICT), on the device of g.

    Args:
        g, images, seed, indices, dataset, split, noise, compile, progress: see `certify`.
        n: votes an image, at least 1.
        alpha: with at most this probability it answers, and with another class than g's; in (0, 1).

    Returns:
        int64 (N,), in the order of the images; ABSTAIN, -1, where the votes do not tell.

    Raises:
        UserError: see `certify`.
    """
    with option_values():
        plan = MajorityVote(n, alpha)
    given = _given(g, images, None, indices, dataset)
    call = Call("predict", g, given, split, plan, seed, noise, compile)
    records = _run(call, None, progress)
    answers = {record.index: record.certificate.prediction for record in records}
    return np.array([answers[index] for index in given.indices], dtype=np.int64)


def _given(
    g: SmoothedClassifier, images: Any, labels: Any, indices: Any, dataset: str
) -> GivenImages:
    if not isinstance(g, SmoothedClassifier):
        raise UserError(f"g must be a SmoothedClassifier, got a {type(g).__name__}")
    return GivenImages(images, g.f.image_shape, g.f.num_classes, labels, indices, dataset)


def _run(call: Call, journal: Path | str | None, progress: bool) -> list[ImageRecord]:
    """The records of all images, by ascending index."""
    g, plan, device = call.g, call.plan, call.g.f.device
    if not isinstance(call.seed, SupportsIndex):
        raise UserError(f"seed must be an integer, got {call.seed!r}")
    with option_values():
        asked = called_identity(call)
    files = None if journal is None else _files(journal)
    if files is not None:
        check_known_again(g)
    started = asked if files is None else start_of(files, binds_nobody(files), asked)[0]
    with as_a_guest(device):
        f = copied(g.f)
        f.batch = asked.batch or f.batch
        f.precision = started.precision or g.precision_on(device.type)
        fix_numerics(f.precision)
        selection = list(asked.selection)
        votes = plan.max_votes * len(selection)
        compiled = choose_compile(started.compile, f, device, votes)
        norms = choose_norms(started.norms, f, device, compiled)
        source = choose_noise(started.noise_source, call.images, selection, f.noise_level)
        problem = ""
        if call.noise == "auto" and source != "integer":
            problem = inexact(call.images, selection, f.noise_level)
        identity = replace(
            started,
            threads=started.threads or torch.get_num_threads(),
            precision=f.precision,
            compile=compiled,
            norms=norms,
            noise_source=stored_name(source),
        )
        module = CertificationModule(
            f, plan, call.images, selection, call.command, call.split, asked.seed, source
        )
        # Networks in memory are known by what they compute, too: they are tried at each start.
        callbacks: list[pl.Callback] = [
            Preparation(lambda f: prepare(f, compiled, bool(norms)), identity.threads)
        ]
        if files is not None:
            callbacks.append(RunKeeper(Outputs(files, identity), called_context(g, device)))
        if progress:
            callbacks.append(Progress())
        with memory_for(f.batch):
            guest_trainer(device, callbacks).predict(module, return_predictions=False)
    if problem:
        warnings.warn(f"{problem}: floating-point noise, as by noise='float'", stacklevel=3)
    records = merge_records(module.records)
    failed = [record for record in records if record.error]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(records)} images failed and count as not certified, the first "
            f"is image {failed[0].index}: {failed[0].error}",
            stacklevel=3,
        )
    return records


def _files(journal: Path | str) -> OutputFiles:
    path = Path(journal)
    return OutputFiles(path if path.suffix in (*TABLES, ".jsonl") else f"{journal}{TABLES[0]}")
