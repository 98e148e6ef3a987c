"""Classifiers of 2 x 2 pixels whose smoothed probability is known, as checkpoints and in numbers.

A half-space and a ball, whose borders lie between the values that 8-bit images plus whole numbers
have, so that no rounding decides.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import ncx2, norm
from torch import Tensor, nn

SIGMA = 0.25
LEVEL = 255 * SIGMA  # standard deviation, in steps of 8 bits
WEIGHTS, BORDER = np.array([1, -2, 3, 1]), 300.5  # class 1 where WEIGHTS . pixels is larger
CENTRE, SQUARED_RADIUS = np.array([90, 140, 120, 70]), 54_000.5  # class 1 within


class HalfSpace(nn.Sequential):
    """Class 1 where a weighted sum of the pixels is large."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(4, 2))


class Ball(nn.Module):
    """Class 1 near a point."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(4))
        self.squared_radius = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        within = self.squared_radius - (images.flatten(1) - self.centre).square().sum(dim=1)
        return torch.stack([-within, within], dim=1)


class Truth(NamedTuple):
    """A classifier's words, weights, and the probability of its class 1.

    Attributes:
        factory: for --classifier.
        weights: for its checkpoint.
        bases: uint8 (B, 4), images.
    """

    factory: str
    weights: dict[str, Tensor]
    bases: np.ndarray

    def probabilities(self, exact_noise: bool) -> np.ndarray:
        """Of class 1 for each base, float64 (B,)."""
        half_space = self.factory.endswith("HalfSpace")
        if exact_noise:
            return np.array([_on_the_grid(base, half_space) for base in self.bases.astype(int)])
        return _of_reals(self.bases.astype(int), half_space)


def _of_reals(images: np.ndarray, half_space: bool) -> np.ndarray:
    """P(class 1) of images (B, 4) plus normal noise."""
    if half_space:
        return norm.cdf((images @ WEIGHTS - BORDER) / (LEVEL * np.linalg.norm(WEIGHTS)))
    distance = ((images - CENTRE) ** 2).sum(axis=1)
    return ncx2.cdf(SQUARED_RADIUS / LEVEL**2, 4, distance / LEVEL**2)


def _on_the_grid(base: np.ndarray, half_space: bool) -> float:
    """P(class 1) of base + whole numbers, each the rounding of 255 times a normal draw.

    The distribution of the sum over the pixels, one after another.
    """
    steps = np.arange(-int(9 * LEVEL), int(9 * LEVEL) + 1)
    chances = norm.cdf((steps + 0.5) / LEVEL) - norm.cdf((steps - 0.5) / LEVEL)
    chances[0], chances[-1] = norm.cdf(steps[0] / LEVEL), norm.sf(steps[-1] / LEVEL)
    terms = [
        weight * (pixel + steps) if half_space else (pixel + steps - centre) ** 2
        for pixel, weight, centre in zip(base, WEIGHTS, CENTRE, strict=True)
    ]
    # Two and two pixels: the chance of each sum of the one, and of the other's on its side.
    sums = [(a[:, None] + b).ravel() for a, b in (terms[:2], terms[2:])]
    weight = np.outer(chances, chances).ravel()
    first, second = (np.bincount(some - some.min(), weight) for some in sums)
    border = int(np.floor(BORDER if half_space else SQUARED_RADIUS))  # between it and the next one
    largest = border - (sums[0].min() + np.arange(len(first))) - sums[1].min()
    up_to = np.cumsum(second)[np.clip(largest, 0, len(second) - 1)]
    below = float(first @ np.where(largest < 0, 0.0, up_to))
    return 1 - below if half_space else below


def half_space() -> Truth:
    weights = torch.tensor(np.stack([-WEIGHTS, WEIGHTS]) * 255.0, dtype=torch.float32)
    bias = torch.tensor([BORDER, -BORDER], dtype=torch.float32)
    return Truth("known_truth:HalfSpace", {"1.weight": weights, "1.bias": bias}, _bases(True))


def ball() -> Truth:
    weights = {
        "centre": torch.tensor(CENTRE / 255, dtype=torch.float32),
        "squared_radius": torch.tensor(SQUARED_RADIUS / 255**2, dtype=torch.float32),
    }
    return Truth("known_truth:Ball", weights, _bases(False))


def _bases(half_space: bool) -> np.ndarray:
    """Images of which the smoothed classifiers are more and less sure, of either class."""
    candidates = np.random.default_rng(0).integers(0, 256, (4000, 4))
    chances = _of_reals(candidates, half_space)
    wanted = (0.1, 0.2, 0.65, 0.75, 0.85, 0.9, 0.94, 0.97)
    return candidates[[int(np.argmin(abs(chances - one))) for one in wanted]].astype(np.uint8)


def write(truth: Truth, folder: Path, images: int) -> tuple[Path, Path]:
    """Writes images, the bases in turn, each with its likelier class, and the weights."""
    place = np.arange(images) % len(truth.bases)
    labels = (truth.probabilities(exact_noise=False) > 0.5).astype(np.int64)
    data, weights = folder / "truth.npz", folder / "weights.pt"
    np.savez(data, images=truth.bases[place].reshape(-1, 2, 2), labels=labels[place])
    torch.save(truth.weights, weights)
    return data, weights
