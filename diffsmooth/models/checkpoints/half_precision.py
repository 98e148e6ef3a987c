"""Weights in half precision, which takes half the room."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError


class Halved(NamedTuple):
    """Weights in half precision.

    Attributes:
        weights: float16; whole numbers as they were.
        change: the largest change of a weight, as a share of the largest in its tensor.
        name: of that tensor.
    """

    weights: dict[str, Tensor]
    change: float
    name: str


def halved(path: Path, weights: dict[str, Tensor]) -> Halved:
    """Rounds weights to half precision.

    Args:
        path: of their file, for messages.
        weights: finite.

    Raises:
        UserError: one is beyond half precision's range; it is named.
    """
    rounded, change, of = {}, 0.0, ""
    for name, value in weights.items():
        rounded[name] = value
        if not value.is_floating_point():
            continue
        rounded[name] = half = value.half()
        if not half.isfinite().all():
            raise UserError(
                f"{path}: {word(name)} holds {value.abs().max().item():g}, beyond half precision, "
                f"which ends at {torch.finfo(torch.float16).max:g}"
            )
        largest = float(value.double().abs().max()) if value.numel() else 0.0
        moved = float((half.double() - value.double()).abs().max()) if value.numel() else 0.0
        if moved and moved / largest > change:
            change, of = moved / largest, name
    return Halved(rounded, change, of)
