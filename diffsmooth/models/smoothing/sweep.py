"""Many settings of the local smoothing judged on the same noisy images, each purified once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmooth.models.smoothing.draws import draws_of_runs
from diffsmooth.models.smoothing.engine import AHEAD, Task, check_image
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.local_smoothing import (
    LocalSmoothing,
    NetworkError,
    draw_local_noise,
)
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource, Votes, rows_of
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.stats import Certificate, FixedSampleSize


class Setting(NamedTuple):
    """Of the local smoothing: see `LocalSmoothing`."""

    sigma_local: float
    m: int


class SharedCopies(NamedTuple):
    """The local noise of several m, what they have in common held once.

    Attributes:
        noise: (rows, C, H, W).
        rows_of_m: the rows of each m.
    """

    noise: Tensor
    rows_of_m: dict[int, slice]


def share_copies(
    numbers: Iterable[int], image_shape: tuple[int, int, int], seed: int
) -> SharedCopies:
    """The fixed noise of each number of copies, exactly as `LocalSmoothing` draws it.

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
    return SharedCopies(noise, rows)


class Sweep:
    """f under each of several settings, whose votes cost one purification.

    A setting's f is the one that `VoteFunction` computes with that m and sigma_local, but for low
    bits: its copies go through the classifier beside others'.

    Args:
        f: its purifier, classifier, sigma, batch and precision are used, on its device; not its own
            local smoothing.
        settings: at least one, all different.
        seed: of the local noise.
    """

    def __init__(self, f: VoteFunction, settings: Sequence[Setting], seed: int) -> None:
        assert len(set(settings)) == len(settings)
        channels, height, width = f.local_smoothing.noise.shape[1:]
        shape = (channels, height, width)
        self.f = f
        self.settings = list(settings)
        self._smoothings: dict[float, LocalSmoothing] = {}
        self._rows: dict[Setting, slice] = {}
        for level in dict.fromkeys(setting.sigma_local for setting in settings):
            numbers = [setting.m for setting in settings if setting.sigma_local == level]
            copies = share_copies(numbers, shape, seed)
            self._smoothings[level] = LocalSmoothing(
                f.local_smoothing.classifier, len(copies.noise), level, shape, noise=copies.noise
            ).to(f.device)
            self._rows |= {Setting(level, m): copies.rows_of_m[m] for m in numbers}

    def answers(self, noisy: Tensor, draws_of: DrawsOfRun) -> Tensor:
        """The answers of each setting (S, B) to noisy images (B, C, H, W), see `VoteFunction`."""

        def confidence(run: int) -> Tensor:
            with self.f.autocast():
                purified = self.f.purifier(noisy, self.f.sigma, draws_of(run))
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


class Batch(NamedTuple):
    """A forward pass: votes of one image, and their noisy images, made in the background."""

    votes: list[Votes]
    noisy: "Future[Tensor]"


@torch.inference_mode()
def certify_settings(
    sweep: Sweep,
    plan: FixedSampleSize,
    tasks: Iterable[Task],
    noise: NoiseSource,
    progress: Callable[[int], object],
) -> Iterator[list[Certificate]]:
    """Each image's certificates, one a setting in their order, as soon as it is done.

    Args:
        sweep: what votes.
        plan: how many votes; every setting gets the same.
        tasks: the images.
        noise: of the votes.
        progress: is told the number of votes of each batch that has run.

    Raises:
        ValueError: an image that is not finite, leaves [0, 1] or is of another shape.
        NetworkError: outputs that cannot be votes.
        OutOfMemory: the batch does not fit.
        UserError: f is not one fixed function of each image, see `ensure_fixed`.
    """
    f = sweep.f.eval()
    ensure_fixed(f)
    shape = tuple(f.local_smoothing.noise.shape[1:])
    with ThreadPoolExecutor(1, thread_name_prefix="noise") as background:
        for task in tasks:
            check_image(task.image, task.key.image, shape)
            # On the device until the image is done; the last class is "not finite".
            counts = torch.zeros(
                2, len(sweep.settings), f.num_classes + 1, dtype=torch.int64, device=f.device
            )
            for batch in _batches(f, plan, task, noise, background):
                draws_of = draws_of_runs(
                    f.purifier, noise, batch.votes, f.batch, shape, f.device, background
                )
                with memory_for(f.batch):
                    noisy = batch.noisy.result().to(f.device, non_blocking=True)
                answers = sweep.answers(noisy, draws_of)
                for some, own in zip(batch.votes, rows_of(batch.votes), strict=True):
                    counts[some.stage].scatter_add_(
                        1, answers[:, own], torch.ones_like(answers[:, own])
                    )
                progress(sum(some.count for some in batch.votes))
            yield _certificates(sweep, plan, task.key, counts)


def _batches(
    f: VoteFunction,
    plan: FixedSampleSize,
    task: Task,
    noise: NoiseSource,
    background: Executor,
) -> Iterator[Batch]:
    """The batches of an image, the noise of the next ones begun."""
    ahead: list[Batch] = []
    for votes in _packed(task.key, (plan.n0, plan.n), f.batch):
        arguments = (votes, [task.image] * len(votes), f.noise_level, f.batch)
        ahead.append(Batch(votes, background.submit(noise.noisy, *arguments)))
        if len(ahead) > AHEAD:
            yield ahead.pop(0)
    yield from ahead


def _packed(key: NoiseKey, sizes: tuple[int, ...], rows: int) -> Iterator[list[Votes]]:
    """The votes of all stages, so many rows at a time; the last batch may have fewer."""
    batch: list[Votes] = []
    room = rows
    for stage, size in enumerate(sizes):
        first = 0
        while first < size:
            count = min(room, size - first)
            batch.append(Votes(key, stage, first, count))
            first, room = first + count, room - count
            if not room:
                yield batch
                batch, room = [], rows
    if batch:
        yield batch


def _certificates(
    sweep: Sweep, plan: FixedSampleSize, key: NoiseKey, counts: Tensor
) -> list[Certificate]:
    """From the counts (2, S, K + 1) of an image."""
    selection, estimation = counts.cpu().numpy()
    certificates = []
    for setting, *stages in zip(sweep.settings, selection, estimation, strict=True):
        run = plan.start(sweep.f.sigma, sweep.f.num_classes)
        for stage in stages:
            if stage[-1]:
                raise NetworkError(
                    f"image {key.image}: the networks' output is not finite at sigma_local "
                    f"{setting.sigma_local:g}, m {setting.m}"
                )
            run.update(stage[:-1])
        certificates.append(run.certificate)
    return certificates
