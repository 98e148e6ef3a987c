"""Whether files can be written, before work is spent on what goes into them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from diffsmooth.stats.errors import UserError

LONGEST_NAME = 230  # bytes; files are written beside themselves first, under a longer name


def check_folder(option: str, folder: Path) -> None:
    """Raises UserError unless `folder` is there, or can be made, and can be written to."""
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UserError(f"{option} {folder}: {there} is not a folder that can be written to")
        # Only trying tells: names may be too long, and some file systems are like /proc.
        for path in reversed(missing):
            path.mkdir()
            made.insert(0, path)
    except FileExistsError:
        pass  # another process has just made it
    except (OSError, ValueError) as error:  # ValueError: no name has such a byte
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option} {folder}: cannot be made ({reason})") from error
    finally:
        for path in made:
            with suppress(OSError):  # or has put a file into it
                path.rmdir()


def check_file(option: str, path: Path) -> None:
    """Raises UserError unless a file can be written at `path`, in a folder that may be missing."""
    if path.is_dir() or not path.name:
        raise UserError(f"{option} {path}: is a folder, a file is to be written")
    if path.exists() and not path.is_file():  # a device would be replaced by a file
        raise UserError(f"{option} {path}: is no regular file, and would be replaced by one")
    check_folder(option, path.absolute().parent)
    if "\0" in path.name or len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UserError(
            f"{option} {path}: its name must have at most {LONGEST_NAME} bytes, and no zero byte"
        )


def check_ending(path: Path, endings: Iterable[str]) -> None:
    """Raises UserError unless a file's name has one of the endings."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: its name must end in {' or '.join(endings)}")
