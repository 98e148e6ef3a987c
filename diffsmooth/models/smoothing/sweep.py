"""Many settings of the local smoothing judged on the same noisy images, each purified once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.local_smoothing import (
    LocalSmoothing,
    NetworkError,
    draw_local_noise,
)
from diffsmooth.models.smoothing.noise import NoiseSource
from diffsmooth.models.smoothing.packing import Finished, Task
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.stats import Certificate, FixedSampleSize


class Setting(NamedTuple):
    """A local smoothing to judge: see `LocalSmoothing`."""

    sigma_local: float
    m: int

    def __str__(self) -> str:
        return f"sigma_local {self.sigma_local:g}, m {self.m}"


def share_copies(
    numbers: Iterable[int], image_shape: tuple[int, int, int], seed: int
) -> tuple[Tensor, dict[int, slice]]:
    """Fixed noise (copies, C, H, W), and which rows of it are `LocalSmoothing`'s of each m.

    The draws of a few copies are the first ones of many. But torch draws by sixteens: unless
    C H W is a multiple of 16, the last numbers of a draw depend on its size, and the m share less.
    """
    largest, *others = sorted(set(numbers), reverse=True)
    noise, rows = draw_local_noise(largest, image_shape, seed), {largest: slice(0, largest)}
    for m in others:
        own = draw_local_noise(m, image_shape, seed)
        if torch.equal(own, noise[:m]):
            rows[m] = slice(0, m)
        else:
            rows[m] = slice(len(noise), len(noise) + m)
            noise = torch.cat([noise, own])
    return noise, rows


class Sweep:
    """A `Voter`: f under each of several settings, whose votes cost one purification.

    A setting's f is the one that `VoteFunction` computes with that m and sigma_local, but for low
    bits: its copies go through the classifier beside others'.

    Args:
        f: its purifier, classifier, sigma, batch and precision are used, on its device; not its own
            local smoothing.
        settings: at least one, all different.
        seed: the local noise's.
    """

    def __init__(self, f: VoteFunction, settings: Sequence[Setting], seed: int) -> None:
        assert len(set(settings)) == len(settings)
        self.f = f
        self.settings = list(settings)
        self._smoothings: dict[float, LocalSmoothing] = {}
        self._rows: dict[Setting, slice] = {}
        for level in dict.fromkeys(setting.sigma_local for setting in settings):
            numbers = [setting.m for setting in settings if setting.sigma_local == level]
            noise, rows = share_copies(numbers, f.image_shape, seed)
            smoothing = LocalSmoothing(
                f.local_smoothing.classifier, len(noise), level, f.image_shape, noise=noise
            )
            smoothing.layout = f.local_smoothing.layout
            self._smoothings[level] = smoothing.to(f.device)
            self._rows |= {Setting(level, m): rows[m] for m in numbers}

    def answer(self, noisy: Tensor, draws_of: DrawsOfRun) -> Tensor:
        """The answers of each setting (S, B) to noisy images (B, C, H, W), see `VoteFunction`."""

        def confidence(reverse_run: int) -> Tensor:
            with self.f.autocast():
                purified = self.f.purifier(noisy, self.f.sigma, draws_of(reverse_run))
                by_level = {
                    level: smoothing.softmax(purified)
                    for level, smoothing in self._smoothings.items()
                }
            return torch.stack(
                [
                    by_level[setting.sigma_local][:, self._rows[setting]].mean(dim=1)
                    for setting in self.settings
                ]
            )

        return self.f.vote(confidence)


def certify_settings(
    sweep: Sweep,
    plan: FixedSampleSize,
    tasks: Iterable[Task],
    noise: NoiseSource,
    progress: Callable[[int], object],
) -> Iterator[list[Certificate]]:
    """Each image's certificates, one a setting in their order, as soon as it is done.

    Args:
        plan: how many votes; every setting gets the same.
        progress: is told the number of votes of each batch that has run.

    Raises:
        ValueError: an image that is not finite, leaves [0, 1] or is of another shape.
        NetworkError: outputs that cannot be votes.
        OutOfMemory: the batch does not fit.
        UserError: f is not one fixed function of each image, see `ensure_fixed`.
    """
    with VoteEngine(sweep, plan, noise) as engine:

        def advance() -> Iterator[list[Certificate]]:
            before = engine.votes_cast
            finished = engine.step()
            if engine.votes_cast > before:
                progress(engine.votes_cast - before)
            return map(_certificates, finished)

        for task in tasks:
            engine.submit(task)
            while not engine.needs_task:
                yield from advance()
        while not engine.is_idle:
            yield from advance()


def _certificates(finished: Finished) -> list[Certificate]:
    """Those of an image, or its error."""
    if isinstance(finished.error, NetworkError):
        raise NetworkError(f"image {finished.task.key.image}: {finished.error}")
    if finished.error is not None:
        raise finished.error
    return list(finished.certificates)
