"""An image to certify, and what became of it."""

from typing import NamedTuple

from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.stats import Certificate


class Task(NamedTuple):
    """An image to certify.

    Attributes:
        image: float32 (C, H, W) in [0, 1], on the CPU.
        key: whose noise its votes use.
        label: true class, for plans that use it.
    """

    image: Tensor
    key: NoiseKey
    label: int | None = None


class Finished(NamedTuple):
    """What became of a task: certificates, or the error that it raised.

    Attributes:
        task: the image.
        certificates: one of f alone, one a setting of several; none where there is an error.
        error: what was raised, or None.
        seconds: its share of the wall-clock time, by its share of each batch.
    """

    task: Task
    certificates: tuple[Certificate, ...]
    error: Exception | None
    seconds: float

    @property
    def certificate(self) -> Certificate | None:
        """That of f alone, None where there is an error."""
        assert len(self.certificates) < 2
        return self.certificates[0] if self.certificates else None


def check_image(image: Tensor, index: int, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an image is of the shape, on the CPU, finite and in [0, 1]."""
    if tuple(image.shape) != shape or image.device.type != "cpu":
        raise ValueError(
            f"image {index} must be {shape} on the CPU, got {tuple(image.shape)} on {image.device}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image {index} must lie in [0, 1], its values range from {low} to {high}")
