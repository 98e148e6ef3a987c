"""A finished run of attacks, as it is read: its tries, what they left, and a few pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diffsmooth.npz_file import NpzError, read_npz
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.manifest import ManifestError, read_manifest
from diffsmooth.runs.names import RunFiles, is_there
from diffsmooth.runs.npz_records import write_records
from diffsmooth.runs.same_run import check_same_run, check_whole
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.empirical import Empirical
from diffsmooth.stats.errors import UserError

PIXELS = ("original", "perturbation", "attacked")


@dataclass(frozen=True)
class AttackPicture:
    """An image, and what an attack made of it; uint8 (C, H, W).

    Attributes:
        item: the try's number in the journal.
        scale: by which the perturbation is enlarged, around grey.
        original, perturbation, attacked: pixels.
    """

    item: int
    scale: float
    original: np.ndarray
    perturbation: np.ndarray
    attacked: np.ndarray


@dataclass(frozen=True)
class AttackRun:
    """A run of attacks.

    Attributes:
        name: for tables and legends.
        path: the file that was named.
        records: the tries, ascending.
        identity: the manifest's.
        pictures: of a few tries.
    """

    name: str
    path: Path
    records: tuple[ImageRecord, ...]
    identity: Mapping[str, Any]
    pictures: tuple[AttackPicture, ...] = ()

    @property
    def attacked(self) -> str:
        """Short name of the run that was attacked."""
        return str(self.identity.get("attacked", ""))

    @cached_property
    def found(self) -> Empirical:
        """What the tries found."""
        return Empirical.from_records(self.records)


def read_attacks(path: Path | str) -> AttackRun:
    """Reads a finished run of attacks by its journal or its table.

    Raises:
        UserError: missing, broken, or no run of attacks; the message names the file.
    """
    files = RunFiles.beside(Path(path))
    manifest = read_manifest(files.manifest)
    if manifest is None and not is_there(Path(path)):
        raise UserError(f"{path}: no such file")
    if manifest is None or manifest.identity.get("command") != "attack":
        raise UserError(f"{path}: is not of a run of attacks")
    if not is_there(files.journal):
        raise ManifestError(f"{files.journal}: no such file: the run has not ended")
    journal = check_same_run(read_journal(files.journal), manifest)
    items = np.array([record.index for record in journal.records], dtype=np.int64)
    check_whole(manifest, items, files.journal)
    pictures = read_pictures(files.images) if is_there(files.images) else ()
    return AttackRun(
        shown(files.name), Path(path), journal.records, manifest.identity, tuple(pictures)
    )


def write_pictures(path: Path, pictures: Sequence[AttackPicture]) -> None:
    """Writes pictures of one shape, at least one, to an .npz file, whole or not at all."""
    write_records(path, pictures)


def read_pictures(path: Path) -> list[AttackPicture]:
    """The pictures of such a file.

    Raises:
        UserError: broken; the message names the file.
    """
    try:
        item, scale, *pixels = read_npz(path, ("item", "scale", *PIXELS))
    except NpzError as error:
        raise UserError(f"{path}: not the pictures of attacks ({error})") from error
    sound = (
        item.ndim == scale.ndim == 1
        and np.issubdtype(item.dtype, np.integer)
        and np.issubdtype(scale.dtype, np.floating)
        and all(part.dtype == np.uint8 and part.ndim == 4 for part in pixels)
        and len({part.shape for part in pixels}) == 1
        and len(item) == len(scale) == len(pixels[0])
        and pixels[0].shape[1] in (1, 3)
        and min(pixels[0].shape[1:]) > 0
    )
    if not sound:
        raise UserError(f"{path}: not the pictures of attacks (other types or shapes)")
    rows = zip(item, scale, *pixels, strict=True)
    return [AttackPicture(int(i), float(factor), *parts) for i, factor, *parts in rows]
