"""Who casts votes in `bench`: the published loop, and the engine in its settings."""

from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from diffsmooth.lit.data import load_images
from diffsmooth.models.smoothing.noise import NumpyNoise, Votes
from diffsmooth.models.smoothing.precision import Numerics
from diffsmooth.models.words import SourceName
from diffsmooth.pipeline.bench_process import GREY, KEY, seconds_of, time_loop, vote
from diffsmooth.pipeline.workloads import SIGMA, WORKLOADS
from diffsmooth.stats.printed import rounded_down

AGREEMENT_IMAGES, AGREEMENT_VOTES = 40, 50


class Contestant(Protocol):
    """What casts votes, in batches."""

    batch: int

    def seconds(self, batches: int) -> float:
        """How long so many batches of votes take."""


class Loop:
    """The published loop, in a process of its own."""

    numerics: Numerics

    def __init__(
        self, pool: ProcessPoolExecutor, name: str, batch: int, device: torch.device
    ) -> None:
        self.batch = batch
        self._time = partial(time_loop, pool, name, batch, device)

    def seconds(self, batches: int) -> float:
        seconds, self.numerics = self._time(batches * self.batch)
        return seconds


class Engine:
    """The engine in one of the settings; also its networks without it."""

    def __init__(self, name: str, setting: str, batch: int, device: torch.device, word: SourceName):
        self.name, self.setting, self.batch = name, setting, batch
        self._device, self._word = device, word
        self.f = WORKLOADS[name].f(batch, setting, device)
        self.image = torch.full(self.f.image_shape, GREY)

    def seconds(self, batches: int) -> float:
        run = partial(vote, self.f, batches * self.batch, self.image, self._word)
        return seconds_of(run, self._device)

    @cached_property
    def noisy(self) -> Tensor:
        votes = [Votes(KEY, 0, 0, self.batch)]
        return NumpyNoise().noisy(votes, [self.image], SIGMA, self.batch).images.to(self._device)

    @torch.inference_mode()
    def network_seconds(self, batches: int, network: str = "both") -> float:
        """Of both networks, or of one: "purifier" or "classifier"."""
        f, noisy = self.f, self.noisy

        def answer() -> Tensor:
            if network == "both":
                return f.answer(noisy, lambda run: None)
            if network == "purifier":
                return f.purify(noisy)
            with f.autocast():
                return f.local_smoothing(noisy)

        def run() -> None:
            for _ in range(batches):
                answers = answer()
            answers.cpu()

        return seconds_of(run, self._device)


@torch.inference_mode()
def agreement_of(engine: Engine) -> str:
    """Share of votes on real images that are those of float32, the networks as loaded."""
    workload, batch = WORKLOADS[engine.name], engine.batch
    if workload.random:
        return "(random weights)"
    images = load_images("fashion_mnist_sample", "data")
    reference = workload.f(batch, "plain", engine.f.device)
    same = total = 0
    for index in range(0, len(images), len(images) // AGREEMENT_IMAGES):
        for first in range(0, AGREEMENT_VOTES, batch):
            count = min(batch, AGREEMENT_VOTES - first)
            votes = [Votes(KEY._replace(image=index), 0, first, count)]
            noisy = NumpyNoise().noisy(votes, [images[index].image], SIGMA, batch).images
            noisy = noisy.to(engine.f.device)
            expected = reference.answer(noisy[:count], lambda run: None)
            answers = engine.f.answer(noisy, lambda run: None)[:count]
            total += count
            same += int((answers == expected).sum())
    return f"{rounded_down(100 * same / total, 2)} % of {total}"
