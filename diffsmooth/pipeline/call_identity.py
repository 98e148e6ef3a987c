"""The identity of a run from Python: networks in memory are known by what they compute."""

import operator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from diffsmooth.lit.data.given import GivenImages
from diffsmooth.lit.probes import hardware_name
from diffsmooth.models.checkpoints.weights import network_sha256
from diffsmooth.models.smoothing.noise_sources import asked_name
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.models.smoothing.purifiers import IdentityPurifier
from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
from diffsmooth.models.words import Noise
from diffsmooth.pipeline.this_start import this_start
from diffsmooth.runs.identity import RunIdentity, ties_of
from diffsmooth.runs.manifest import RunContext
from diffsmooth.stats import Plan
from diffsmooth.stats.errors import UserError

Compile = bool | Literal["auto"]


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


def called_identity(call: Call) -> RunIdentity:
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
        norms=None,
        noise_source=asked_name(call.noise),
        hardware=hardware_name(device),
        torch=torch.__version__,
        numpy=np.__version__,
    )


def check_known_again(g: SmoothedClassifier) -> None:
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


def called_context(g: SmoothedClassifier, device: torch.device) -> RunContext:
    classifier, purifier = g.f.local_smoothing.classifier.network, g.f.purifier
    names = _name(classifier), _name_of_purifier(purifier)
    return RunContext(1, 1, device.type, *names, "", **this_start(device))


def _name(network: object) -> str:
    """Where a network's class, or a function, is defined, and how it is called there."""
    named: Any = network if hasattr(network, "__qualname__") else type(network)
    return f"{named.__module__}.{named.__qualname__}"


def _name_of_purifier(purifier: nn.Module) -> str:
    denoiser = getattr(purifier, "denoiser", None)
    parts = [purifier, denoiser, getattr(denoiser, "function", None)]
    return " of ".join(_name(part) for part in parts if part is not None)
