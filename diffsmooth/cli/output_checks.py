"""Whether files can be written, before work is spent on what goes into them."""

import os
from collections.abc import Iterable
from pathlib import Path

from diffsmooth.stats.errors import UserError


def check_folder(option: str, folder: Path) -> None:
    """Raises UserError unless `folder` is there, or can be made, and can be written to."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{option} {folder}: {there} is not a folder that can be written to")


def check_ending(path: Path, endings: Iterable[str]) -> None:
    """Raises UserError unless a file's name has one of the endings."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: its name must end in {' or '.join(endings)}")
