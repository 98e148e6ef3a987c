"""Before votes are spent: does the base classifier see what it was trained on?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import torch
from scipy.stats import binom
from torch import Tensor

from diffsmooth.lit.data import ImageSet
from diffsmooth.lit.data.images import DataError, Sample, evenly_spaced
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Purpose, Votes, draw_run
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import rounded_down

MOST_IMAGES = 100
FEWEST_IMAGES = 20


class Accuracy(NamedTuple):
    """`correct` of `total` images."""

    correct: int
    total: int

    @classmethod
    def of(cls, right: Tensor) -> Self:
        """From which images are right: bool (N,)."""
        return cls(int(right.sum()), len(right))

    def __str__(self) -> str:
        return f"{rounded_down(self.correct / self.total, 2)} ({self.correct} of {self.total})"


def right_answers(
    classify: Callable[[Tensor, DrawsOfRun], Tensor],
    images: ImageSet,
    total: int,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
    batch: int = 50,
    draws: int = 0,
    among: Sequence[int] | None = None,
) -> Tensor:
    """Which of evenly spaced images are classified right under one noise draw each: bool (N,).

    Images that cannot be read are left out.

    The draws are of a purpose of their own: what is chosen here is independent of the votes.

    Args:
        classify: noisy images (B, C, H, W), and what a random purifier draws, to classes (B,).
        images: labelled images.
        total: how many, at most.
        sigma: standard deviation of the noise, in [0, 1] pixel units.
        purpose, seed: what the noise belongs to.
        device: where `classify` runs.
        batch: images a call.
        draws: how many draws a random purifier needs for a reverse run.
        among: indices of the images to take them from; None takes them from all.
    """
    pool = range(len(images)) if among is None else among
    indices = [pool[i] for i in evenly_spaced(len(pool), total)]
    right, source = [], NumpyNoise()
    for start in range(0, len(indices), batch):
        samples = [*readable(images, indices[start : start + batch])]
        if not samples:
            continue
        votes = [
            Votes(NoiseKey(seed, purpose, images.info.name, "", sample.original_index), 0, 0, 1)
            for sample in samples
        ]
        noisy = source.noisy(votes, [sample.image for sample in samples], sigma, len(votes)).images

        def draws_of(
            run: int, votes: list[Votes] = votes, shape: torch.Size = noisy.shape
        ) -> Tensor | None:
            drawn = draw_run(source, votes, draws, run, len(votes), shape[1:])
            return None if drawn is None else drawn.to(device)

        labels = torch.tensor([sample.label for sample in samples])
        with torch.inference_mode():
            answers = classify(noisy.to(device), draws_of)
        right.append(answers.cpu() == labels)
    return torch.cat(right) if right else torch.zeros(0, dtype=torch.bool)


def readable(images: ImageSet, indices: Iterable[int]) -> Iterator[Sample]:
    """Those of some images that can be read; the run tells of the others when it is their turn."""
    for index in indices:
        with suppress(DataError):
            yield images[index]


def check_sanity(
    f: VoteFunction,
    images: ImageSet,
    votes_ahead: int,
    seed: int,
    device: torch.device,
    among: Sequence[int] | None = None,
) -> str:
    """A line with the accuracy of single votes, on few images; "" where too few votes are ahead.

    Args:
        f, images, seed, device, among: see `right_answers`.
        votes_ahead: the run's votes.

    Raises:
        UserError: it is near chance.
    """
    there = len(images) if among is None else len(among)
    total = min(MOST_IMAGES, there, votes_ahead // 10)
    if total < FEWEST_IMAGES:
        return ""
    f = f.to(device)
    right = right_answers(
        f.answer, images, total, f.noise_level, "sanity", seed, device, f.batch, f.purifier.draws,
        among,
    )  # fmt: skip
    if len(right) < FEWEST_IMAGES:
        return ""
    accuracy = Accuracy.of(right)
    # Hardly better than guessing, for all that these images tell at the 1 % level?
    guessing = 1 / f.num_classes
    useful = guessing + min(0.5 * guessing, 0.05)
    if binom.sf(accuracy.correct - 1, accuracy.total, useful) > 0.01:
        raise UserError(
            f"accuracy {accuracy} under this noise is near chance: the wrong checkpoint, "
            "input layer (--normalize) or noise level? --no_sanity_check goes on all the same"
        )
    return f"sanity check: accuracy of single votes {accuracy}\n"
