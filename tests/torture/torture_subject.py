"""What is tortured: linear networks on tiny images, so that a start costs what the suite costs."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

SIDE = 8
IMAGES = 40
CLASSES = 4


class Gray(nn.Module):
    """The mean of the channels: pictures have three, arrays one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1)


def linear(classes: int = CLASSES) -> nn.Module:
    """Bright rows tell the class; weights of a fixed seed, so that radii differ, disturb that."""
    network = nn.Sequential(Gray(), nn.Flatten(), nn.Linear(SIDE * SIDE, classes))
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(classes, SIDE, SIDE, generator=generator) / 4
    for label in range(classes):
        weight[label, 2 * label : 2 * label + 2] += 0.5
    with torch.no_grad():
        network[2].weight.copy_(weight.flatten(1))
        network[2].bias.zero_()
    return network


class NotANumber(nn.Sequential):
    """NaN for images whose first pixel is bright, whatever the noise."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(linear(classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x[:, :, :4, :4].mean(dim=(1, 2, 3)) > 0.8
        return super().forward(x) / torch.where(bright, 0.0, 1.0)[:, None] * 1.0


def write_data(folder: Path) -> None:
    """train.npz and test.npz, and the same test images as PNG files in class folders."""
    from PIL import Image

    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    for split in ("train", "test"):
        labels = np.arange(IMAGES) % CLASSES
        images = generator.integers(0, 200, (IMAGES, SIDE, SIDE), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2] = 255
        np.savez(folder / f"{split}.npz", images=images, labels=labels)
    for at, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "pictures" / "test" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{at:03}.png")


def write_weights(path: Path) -> None:
    """The network as a file, for `--arch torture_subject:linear`."""
    torch.save(linear().state_dict(), path)


if fault := os.environ.get("TORTURE_FAULT"):  # in processes that the suite starts itself, too
    from torture_faults import FAULTS

    FAULTS[fault]()
