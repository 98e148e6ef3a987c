"""`diffsmooth.certify` and `diffsmooth.predict`: the commands' run, on what lies in memory."""

import operator
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, SupportsIndex

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn

from diffsmooth.lit.certification import CertificationModule, Preparation, Progress, RunKeeper
from diffsmooth.lit.data.given import GivenImages
from diffsmooth.lit.probes import hardware_name
from diffsmooth.models.checkpoints.weights import network_sha256
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise import noise_source
from diffsmooth.models.smoothing.precision import fix_numerics, resolve_precision
from diffsmooth.models.smoothing.purifiers import IdentityPurifier
from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
from diffsmooth.models.words import SourceName
from diffsmooth.pipeline.device import choose_compile
from diffsmooth.pipeline.guest import as_a_guest, guest_trainer
from diffsmooth.pipeline.identity import start_of
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.runs.identity import RunIdentity, ties_of
from diffsmooth.runs.journal import merge_records
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import TABLES, OutputFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.stats import FixedSampleSize, ImageRecord, MajorityVote, Plan, Results
from diffsmooth.stats.errors import UserError, option_values

Compile = bool | Literal["auto"]
Noise = SourceName | Literal["auto"]


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
            batch, threads and precision.
        dataset, split: names, of which two runs on the same noise need the same ones.
        plan: how many votes an image gets, and what is concluded.
        seed: of the votes' noise.
        noise: its source; "auto" is the command's.
        compile: whether torch.compile fuses the networks; "auto" decides by the votes ahead.
        journal: OUT, to keep OUT.txt, OUT.jsonl and OUT.manifest.json as the command does; the same
            call goes on where it stopped, and any other is refused.
        progress: whether it is shown on stderr.

    Returns:
        By ascending index. Images that failed count as not certified; a warning names the first.

    Raises:
        UserError: what is given cannot be; the networks are no fixed function, or cannot vote; or
            the journal is of another run.
    """
    if not isinstance(plan, Plan) or not plan.certifies:
        raise UserError(f"plan must be one that gives radii, got {plan!r}")
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
        alpha: probability that an answer is not g's, in (0, 1).

    Returns:
        int64 (N,), in the order of the images; ABSTAIN, -1, where the votes do not tell.

    Raises:
        UserError: see `certify`.
    """
    if not isinstance(alpha, int | float):
        raise UserError(f"alpha must be a number in (0, 1), got {alpha!r}")
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


class Call(NamedTuple):
    """What a run is of, but for its files; see `certify`."""

    command: Literal["certify", "predict"]
    g: SmoothedClassifier
    images: GivenImages
    split: str
    plan: Plan
    seed: int
    noise: Noise
    compile: Compile

    @property
    def source(self) -> SourceName:
        """Where the noise comes from."""
        return SmoothingOptions.noise if self.noise == "auto" else self.noise


def _run(call: Call, journal: Path | str | None, progress: bool) -> list[ImageRecord]:
    """The records of all images, by ascending index."""
    g, plan, device = call.g, call.plan, call.g.f.device
    if not isinstance(call.seed, SupportsIndex):
        raise UserError(f"seed must be an integer, got {call.seed!r}")
    with option_values():
        asked = _asked_identity(call)
    files = None if journal is None else _files(journal)
    if files is not None:
        _check_known_again(g)
    started = asked if files is None else start_of(files, False, asked)[0]
    with as_a_guest(device):
        f = deepcopy(g.f)
        f.batch, f.precision = asked.batch, started.precision or g.precision_on(device.type)
        fix_numerics(f.precision)
        selection = list(asked.selection)
        votes = plan.max_votes * len(selection)
        identity = replace(
            started,
            threads=started.threads or torch.get_num_threads(),
            precision=f.precision,
            compile=choose_compile(started.compile, f, device, votes),
        )
        module = CertificationModule(
            f, plan, call.images, selection, call.command, call.split, asked.seed, call.source
        )
        # Networks in memory are known by what they compute, too: they are tried at each start.
        callbacks: list[pl.Callback] = [
            Preparation(lambda f: prepare(f, bool(identity.compile)), identity.threads)
        ]
        if files is not None:
            callbacks.append(RunKeeper(Outputs(files, identity), _context(g, device)))
        if progress:
            callbacks.append(Progress())
        with memory_for(f.batch):
            guest_trainer(device, callbacks).predict(module, return_predictions=False)
    records = merge_records(module.records)
    failed = [record for record in records if record.error]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(records)} images failed and count as not certified, the first "
            f"is image {failed[0].index}: {failed[0].error}",
            stacklevel=3,
        )
    return records


def _check_known_again(g: SmoothedClassifier) -> None:
    """Raises UserError for networks that a later start could not tell from others."""
    denoiser = getattr(g.f.purifier, "denoiser", None)
    parts = {
        "classifier": g.f.local_smoothing.classifier.network,
        "denoiser": getattr(denoiser, "function", denoiser),
    }
    for what, part in parts.items():
        if part is not None and not isinstance(part, nn.Module):
            raise UserError(
                f"journal: the {what} is a {type(part).__name__}, without weights by which a later "
                "start would know it: make it an nn.Module"
            )


def _files(journal: Path | str) -> OutputFiles:
    path = Path(journal)
    return OutputFiles(path if path.suffix in (*TABLES, ".jsonl") else f"{journal}{TABLES[0]}")


def _asked_identity(call: Call) -> RunIdentity:
    """As the commands' `asked_identity`; networks are known by their classes and their state.

    Raises:
        ValueError: words or numbers that no run can have.
    """
    command, g, images, split, plan, seed, _, compile = call
    f, device = g.f, g.f.device
    if compile not in (True, False, "auto"):
        raise ValueError(f"compile must be true, false or auto, got {compile!r}")
    if not isinstance(images.info.name, str) or not isinstance(split, str):
        raise ValueError(f"dataset and split must be words, got {images.info.name!r} and {split!r}")
    in_order = images.indices == list(range(len(images)))
    ascending, data = sorted(images.indices), images.fingerprint()
    purifier, classifier = f.purifier, f.local_smoothing.classifier.network
    plain, denoiser = type(purifier) is IdentityPurifier, getattr(purifier, "denoiser", None)
    how = f"{_name_of_purifier(purifier)} at {f.noise_level!r}"
    return RunIdentity(
        command=command,
        dataset=images.info.name,
        split=split,
        data=data,
        size=len(images),
        content=data if ascending == images.indices else images.content(ascending),
        image_shape=f.image_shape,
        class_names=(),
        skip=1,
        max=-1,
        indices=() if in_order else tuple(ascending),
        classifier=network_sha256(_name(classifier), classifier),
        classifier_set="",
        diffusion="" if plain else network_sha256(how, purifier),
        diffusion_set="",
        arch=_name(classifier),
        input_layer="",
        purifier="none" if plain else _name_of_purifier(purifier),
        convention=getattr(denoiser, "convention", ""),
        steps=getattr(purifier, "steps", 1),
        runs=f.reverse_runs,
        ties=ties_of(f.reverse_runs),
        pad="reflect" if getattr(denoiser, "pad_to", None) else "none",
        sigma=f.sigma,
        m=f.local_smoothing.m,
        sigma_local=float(f.local_smoothing.sigma_local),
        seed=operator.index(seed),
        local_seed=operator.index(g.local_seed),
        plan=str(plan),
        batch=min(f.batch, plan.max_votes),
        precision=None if g.precision == "auto" else resolve_precision(g.precision, device.type),
        compile=None if compile == "auto" else compile,
        noise_source=noise_source(call.source, device).name,
        hardware=hardware_name(device),
        torch=torch.__version__,
        numpy=np.__version__,
    )


def _context(g: SmoothedClassifier, device: torch.device) -> RunContext:
    classifier, purifier = g.f.local_smoothing.classifier.network, g.f.purifier
    return RunContext(1, 1, device.type, _name(classifier), _name_of_purifier(purifier), "")


def _name(network: object) -> str:
    """Where a network's class, or a function, is defined, and how it is called there."""
    named: Any = network if hasattr(network, "__qualname__") else type(network)
    return f"{named.__module__}.{named.__qualname__}"


def _name_of_purifier(purifier: nn.Module) -> str:
    denoiser = getattr(purifier, "denoiser", None)
    parts = [purifier, denoiser, getattr(denoiser, "function", None)]
    return " of ".join(_name(part) for part in parts if part is not None)
