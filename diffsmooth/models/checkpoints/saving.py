"""Files of weights: whole and on the disk at every moment, or in half precision."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import whole_file


def save_whole(path: Path, content: Any, legacy: bool = False) -> None:
    """Writes what torch.save makes of `content`, in a folder that is made if it is missing.

    In the `legacy` form, torch before 1.6 reads it.

    Raises:
        UserError: the file cannot be written; an older one of this name is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial, open(partial, "wb") as file:
            _save(content, file, legacy)
        folder = os.open(path.parent, os.O_RDONLY)  # its new entry, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def alone(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights each in a memory of its own size: of a larger one, torch.save writes all."""
    return {
        key: value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
        for key, value in weights.items()
    }


def _save(content: Any, file: Any, legacy: bool) -> None:
    try:
        torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    except RuntimeError as error:  # torch's writer says but "unexpected pos" of a full disk
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


class Halved(NamedTuple):
    """Weights in half precision.

    Attributes:
        weights: float16; whole numbers as they were.
        change: the largest change of a weight, as a share of the largest in its tensor.
        name: that tensor's.
    """

    weights: dict[str, Tensor]
    change: float
    name: str


def halved(path: Path, weights: dict[str, Tensor]) -> Halved:
    """Rounds finite weights to half precision.

    Raises:
        UserError: one is beyond half precision's range; it is named, and the file `path`.
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
