"""Before votes are spent: does the base classifier see what it was trained on?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from diffsmooth.lit.data import ImageSet, Sample
from diffsmooth.models.classifiers import pretrained_normalization
from diffsmooth.models.dataset_info import CIFAR10, DatasetInfo, get_dataset_info
from diffsmooth.models.input_layers import Resized, build_input_layer
from diffsmooth.models.noise import NoiseKey, Purpose, draw_noise
from diffsmooth.models.vote_function import DrawsOfRun, VoteFunction
from diffsmooth.stats.printed import rounded_down

MOST_IMAGES = 100
FEWEST_IMAGES = 20


class Accuracy(NamedTuple):
    """`correct` of `total` images."""

    correct: int
    total: int

    def __str__(self) -> str:
        return f"{rounded_down(self.correct / self.total, 2)} ({self.correct} of {self.total})"


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` indices, at most, from 0 to total - 1."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def noisy_accuracy(
    classify: Callable[[Tensor, DrawsOfRun], Tensor],
    images: ImageSet,
    total: int,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
    batch: int = 50,
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
        draws: of a run of a random purifier.
    """
    indices = evenly_spaced(len(images), total)
    correct = 0
    for start in range(0, len(indices), batch):
        samples = [images[index] for index in indices[start : start + batch]]
        clean = torch.stack([sample.image for sample in samples])

        def noise(lane: int, samples: list[Sample] = samples) -> Tensor:
            keys = [
                NoiseKey(seed, purpose, images.info.name, "", sample.original_index)
                for sample in samples
            ]
            shape = tuple(samples[0].image.shape)
            return torch.cat([draw_noise(key, 1, shape, lane=lane) for key in keys])

        def draws_of(run: int, noise: Callable[[int], Tensor] = noise) -> Tensor | None:
            lanes = range(1 + run * draws, 1 + (run + 1) * draws)
            return torch.stack([noise(lane) for lane in lanes]).to(device) if draws else None

        noisy = clean + sigma * noise(0)

        labels = torch.tensor([sample.label for sample in samples])
        with torch.inference_mode():
            answers = classify(noisy.to(device), draws_of)
        correct += int((answers.cpu() == labels).sum())
    return Accuracy(correct, len(indices))


def input_layer_candidates(arch: str, info: DatasetInfo) -> list[str]:
    """The input layers that a network for such images may have been trained behind."""
    words = ["standard", "center"] if info.mean else []
    pairs = [pretrained_normalization(arch)]
    if not info.mean and info.image_shape[0] == 3:
        for known in (CIFAR10, get_dataset_info("imagenet")):
            pairs += [(known.mean, known.std), (known.mean, (1.0, 1.0, 1.0))]
    for pair in pairs:
        if pair is not None and pair != (info.mean, info.std):
            words.append(",".join(f"{number:g}" for number in (*pair[0], *pair[1])))
    return [*dict.fromkeys(words), "none"]


def with_input_layer(classifier: nn.Sequential, name: str, info: DatasetInfo) -> nn.Sequential:
    """The same network, weights shared, behind another input layer."""
    layer = build_input_layer(name, info)
    if isinstance(classifier[0], Resized):
        layer = Resized(layer, classifier[0].size)
    return nn.Sequential(layer, classifier[1]).eval()


def measure_input_layers(
    classifier: nn.Sequential,
    arch: str,
    images: ImageSet,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
) -> dict[str, Accuracy]:
    """Noisy accuracy of a network behind each input layer that it may have been trained behind."""
    measured = {}
    for name in input_layer_candidates(arch, images.info):
        model = with_input_layer(classifier, name, images.info).to(device)
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
    f: VoteFunction,
    images: ImageSet,
    votes_ahead: int,
    seed: int,
    device: torch.device,
) -> Accuracy | None:
    """Accuracy of single votes, on few images against the votes ahead; None where too few are.

    Raises:
        ValueError: it is near chance.
    """
    total = min(MOST_IMAGES, len(images), votes_ahead // 10)
    if total < FEWEST_IMAGES:
        return None
    f = f.to(device)
    accuracy = noisy_accuracy(
        f.answer, images, total, f.noise_level, "sanity", seed, device, f.batch, f.purifier.draws
    )
    # Hardly better than guessing, for all that these images tell at the 1 % level?
    guessing = 1 / f.num_classes
    useful = guessing + min(0.5 * guessing, 0.05)
    if binom.sf(accuracy.correct - 1, accuracy.total, useful) > 0.01:
        raise ValueError(
            f"accuracy {accuracy} under this noise is near chance: the wrong checkpoint, "
            "input layer (--normalize) or noise level? --no_sanity_check goes on all the same"
        )
    return accuracy
