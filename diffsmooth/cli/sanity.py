"""Before votes are spent: does the base classifier see what it was trained on?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from diffsmooth.lit.data import ImageSet
from diffsmooth.models.input_layers import build_input_layer
from diffsmooth.models.noise import NoiseKey, Purpose, VoteNoise
from diffsmooth.models.smoothed_classifier import SmoothedClassifier

MOST_IMAGES = 100
FEWEST_IMAGES = 10
CANDIDATES = ("standard", "center", "none")


class Accuracy(NamedTuple):
    """`correct` of `total` images."""

    correct: int
    total: int

    def __str__(self) -> str:
        return f"{self.correct / self.total:.2f} ({self.correct} of {self.total})"


def noisy_accuracy(
    classify: Callable[[Tensor, Tensor | None], Tensor],
    images: ImageSet,
    total: int,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
    batch: int = 50,
    runs: int = 1,
    draws: int = 0,
) -> Accuracy:
    """Accuracy on evenly spaced images under one noise draw each.

    The draws are of a purpose of their own: what is chosen here is independent of the votes.

    Args:
        classify: noisy images (B, C, H, W), and what a random purifier draws, to classes (B,).
        images: labelled images.
        total: how many, at most.
        sigma: standard deviation of the noise, in [0, 1] pixel units.
        purpose, seed: of the noise.
        device: where `classify` runs.
        batch: images a call.
        runs, draws: of a random purifier, see `VoteNoise`.
    """
    indices = np.unique(
        np.linspace(0, len(images) - 1, min(total, len(images))).round().astype(int)
    )
    correct = 0
    for start in range(0, len(indices), batch):
        samples = [images[int(index)] for index in indices[start : start + batch]]
        clean = torch.stack([sample.image for sample in samples])
        taken = [
            VoteNoise(
                NoiseKey(seed, purpose, images.info.name, "", sample.original_index),
                0,
                tuple(sample.image.shape),
                runs,
                draws,
            ).take(1)
            for sample in samples
        ]
        noisy = clean + sigma * torch.cat([own for own, _ in taken])
        extra = [extra.to(device) for _, extra in taken if extra is not None]
        labels = torch.tensor([sample.label for sample in samples])
        with torch.inference_mode():
            answers = classify(noisy.to(device), torch.cat(extra, dim=2) if extra else None)
        correct += int((answers.cpu() == labels).sum())
    return Accuracy(correct, len(indices))


def measure_input_layers(
    network: nn.Module,
    images: ImageSet,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
) -> dict[str, Accuracy]:
    """Noisy accuracy of a network under each input layer that it may have been trained with."""
    names = CANDIDATES if images.info.mean else ("none",)
    network = network.to(device)
    measured = {}
    for name in names:
        model = nn.Sequential(build_input_layer(name, images.info).to(device), network)
        measured[name] = noisy_accuracy(
            lambda x, _, model=model: model(x).argmax(dim=1),  # type: ignore[misc]
            images,
            MOST_IMAGES,
            sigma,
            purpose,
            seed,
            device,
        )
    return measured


def check_sanity(
    smoothed: SmoothedClassifier,
    images: ImageSet,
    votes_ahead: int,
    seed: int,
    device: torch.device,
) -> Accuracy | None:
    """Accuracy of single votes, on few images against the votes ahead; None where too few are.

    Raises:
        ValueError: it is near chance.
    """
    total = min(MOST_IMAGES, votes_ahead // 10)
    if total < FEWEST_IMAGES:
        return None
    smoothed = smoothed.to(device)
    accuracy = noisy_accuracy(
        lambda x, draws: smoothed.answer(x, draws)[0],
        images,
        total,
        smoothed.noise_level,
        "sanity",
        seed,
        device,
        smoothed.batch,
        smoothed.purifier.runs,
        smoothed.purifier.draws,
    )
    # As good as one and a half times guessing, for all that these images tell at the 1 % level?
    guessing = 1.5 / smoothed.num_classes
    if binom.sf(accuracy.correct - 1, accuracy.total, guessing) > 0.01:
        raise ValueError(
            f"accuracy {accuracy} under this noise is near chance: the wrong checkpoint, "
            "input layer (--normalize) or noise level? --no_sanity_check goes on all the same"
        )
    return accuracy
