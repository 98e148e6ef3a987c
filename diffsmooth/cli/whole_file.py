"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, with the same ending, that takes the file's place at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_folder(option: str, folder: Path) -> None:
    """Raises ValueError unless `folder` is there, or can be made, and can be written to."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"{option} {folder}: {there} is not a folder that can be written to")


def check_ending(path: Path, endings: tuple[str, ...]) -> None:
    """Raises ValueError unless a file's name has one of the endings."""
    if path.suffix not in endings:
        raise ValueError(f"{path}: its name must end in {' or '.join(endings)}")
