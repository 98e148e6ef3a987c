"""Records of arrays as an .npz file: an array a field, a row a record."""

import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsmooth.whole_file import write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_records(path: Path, records: "Sequence[DataclassInstance]") -> None:
    """Writes records of one class and shape, at least one, whole or not at all."""
    arrays: dict[str, Any] = {
        field.name: np.stack([getattr(record, field.name) for record in records])
        for field in fields(records[0])
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(path, content.getvalue())
