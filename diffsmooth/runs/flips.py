"""Images whose attacked form contradicts a certificate, as far as votes tell: `OUT.checks.npz`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from diffsmooth.runs.npz_records import write_records

Outcome = Literal["contradiction", "certificate not confirmed", "prediction not confirmed"]


@dataclass(frozen=True, kw_only=True)
class CheckedFlip:
    """A suspect, voted on again with fresh noise.

    Attributes:
        image: the image's number in its dataset.
        item: the try's, as the journal has it.
        outcome: what the fresh votes say. A contradiction: of two fresh answers at the checking
            level, one certifies the class beyond the distance at which the other is another class.
        certified, radius: the attacked run's certificate.
        norm: distance of the attacked image, rounded up; l2, in [0, 1] pixel units.
        prediction: fresh, of the attacked image; -1 abstains.
        fresh_class, fresh_radius: the fresh certificate of the image as it is.
        original, attacked: float32 (C, H, W), in [0, 1].
    """

    image: int
    item: int
    outcome: Outcome
    certified: int
    radius: float
    norm: float
    prediction: int
    fresh_class: int
    fresh_radius: float
    original: np.ndarray
    attacked: np.ndarray

    @property
    def text(self) -> str:
        """In one line."""
        return (
            f"image {self.image}: {self.outcome}: certified class {self.certified} within "
            f"{self.radius!r}, fresh votes: class {self.fresh_class} within {self.fresh_radius!r}, "
            f"and class {self.prediction} at distance {self.norm!r}"
        )


def write_flips(path: Path, flips: Sequence[CheckedFlip]) -> None:
    """Writes flips, at least one, to an .npz file, whole or not at all."""
    write_records(path, flips)
