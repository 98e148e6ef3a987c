"""The input layer of a classifier whose file does not say it: measured, never taken at chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from diffsmooth.lit.data import ImageSet
from diffsmooth.models.classifiers.architectures import Classifier, pretrained_normalization
from diffsmooth.models.classifiers.dataset_info import CIFAR10, DatasetInfo, get_dataset_info
from diffsmooth.models.classifiers.input_layers import Resized, build_input_layer
from diffsmooth.models.smoothing.noise import Purpose
from diffsmooth.pipeline.sanity import FEWEST_IMAGES, MOST_IMAGES, Accuracy, right_answers

# Beside the constants of Cohen's code (std 0.2023, 0.1994, 0.2010): the spread of all pixels, as in
# DMAE's certify_cifar10.py and DensePure's Wide-ResNet; and what maps [0, 1] to [-1, 1]. The first
# is so near to Cohen's that few images tell them apart.
SELDOM = ("0.4914,0.4822,0.4465,0.2471,0.2435,0.2616", "0.5,0.5,0.5,0.5,0.5,0.5")
LEVEL = 0.01  # at which an accuracy is no longer chance
DOUBT = 0.05  # at which one layer is no longer better than another


class MeasuredLayer(NamedTuple):
    """An input layer, and which of the images the network got right behind it: bool (N,).

    Attributes:
        is_seldom: whether it is taken only where it is clearly better than the others.
    """

    name: str
    right: Tensor
    is_seldom: bool = False

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy.of(self.right)

    def __str__(self) -> str:
        return f"{self.name} {self.accuracy}"


class LayerChoice(NamedTuple):
    """What the measurements say.

    Attributes:
        measured: all that was tried.
        name: the best layer; "" where none is better than chance.
        doubt: what else it could be, or why there is none, in words; "" where that is clear.
    """

    measured: Sequence[MeasuredLayer]
    name: str
    doubt: str


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
        layer = Resized(layer, classifier[0].size, classifier[0].antialias)
    return Classifier(layer, classifier[1]).eval()


def measure_input_layers(
    classifier: nn.Sequential,
    arch: str,
    images: ImageSet,
    sigma: float,
    purpose: Purpose,
    seed: int,
    device: torch.device,
) -> LayerChoice:
    """Chooses among the layers that a network may have been trained behind, by noisy accuracy.

    All are measured on the same images under the same noise, however few votes the run will take.
    """
    measured = []
    usual = input_layer_candidates(arch, images.info)
    seldom = set(SELDOM) - {*usual} if images.info.mean == CIFAR10.mean else set()
    for name in [*usual, *sorted(seldom)]:
        model = with_input_layer(classifier, name, images.info).to(device)
        right = right_answers(
            lambda x, _, model=model: model(x).argmax(dim=1),  # type: ignore[misc]
            images,
            MOST_IMAGES,
            sigma,
            purpose,
            seed,
            device,
        )
        measured.append(MeasuredLayer(name, right, name in seldom))
    return judge_layers(measured, images.info.num_classes, images.labels)


def judge_layers(
    measured: Sequence[MeasuredLayer], num_classes: int, labels: np.ndarray
) -> LayerChoice:
    """The best of the layers, measured on the same images, if these tell that it is no chance.

    One that is seldom is taken only where it is clearly better than the best of the others. Who
    always answers the most frequent of the dataset's labels (N,) is at chance, too.
    """

    def right(layer: MeasuredLayer) -> int:
        return layer.accuracy.correct

    usual = max((layer for layer in measured if not layer.is_seldom), key=right)
    best = max(measured, key=right)  # of equals the first
    best = best if best is usual or _beats(best, usual) else usual
    correct, total = best.accuracy
    if total < FEWEST_IMAGES:
        return LayerChoice(measured, "", f"{total} images are too few to tell")
    chance = max(1 / num_classes, np.unique(labels, return_counts=True)[1].max() / len(labels))
    if len(measured) * binom.sf(correct - 1, total, chance) > LEVEL:
        return LayerChoice(measured, "", f"no layer does better than chance ({chance:.2g})")
    rivals = [one for one in measured if not one.is_seldom or right(one) > correct]
    likely = [one.name for one in rivals if one is not best and not _beats(best, one)]
    doubt = ""
    if likely:
        doubt = f"these images do not tell {best.name} from {' or '.join(likely)}"
    return LayerChoice(measured, best.name, doubt)


def _beats(one: MeasuredLayer, other: MeasuredLayer) -> bool:
    """Sign test on the images that one of the two got right, and the other wrong."""
    won = int((one.right & ~other.right).sum())
    lost = int((other.right & ~one.right).sum())
    return bool(binom.sf(won - 1, won + lost, 0.5) <= DOUBT)
