"""The regular image files below a folder, and what was skipped on the way."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diffsmooth.lit.data.images import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# What archivers, file systems and servers leave behind.
LEFT_BEHIND = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
SHOWN = 3  # names of a kind in a note


def printable(name: object) -> str:
    """A name that a terminal, a log and JSON can take: what cannot be shown is escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in str(name)
    )


class Notes:
    """What was skipped, by its kind, and said at the end."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, None]] = {}

    def add(self, kind: str, path: str) -> None:
        self._found.setdefault(kind, {})[printable(path)] = None

    def lines(self) -> tuple[str, ...]:
        """One line a kind, with its first names."""
        return tuple(
            f"skipped {len(names)} ({kind}): {', '.join([*names][:SHOWN])}"
            + (", ..." if len(names) > SHOWN else "")
            for kind, names in self._found.items()
        )


class Place(NamedTuple):
    """A folder by the path that led to it, and by the one that has no links in it."""

    path: str
    real: str


def subfolders(folder: Path, notes: Notes) -> dict[str, Place]:
    """The folders in a folder by their names, sorted.

    Hidden ones are left out, and links to a folder that holds them.

    Raises:
        DataError: no such folder, or not a readable one; a link to nothing.
    """
    if not folder.is_dir():
        raise DataError(
            f"{printable(folder)}: no such folder (--data_root, or --data.root of a training, says "
            "where a known dataset lies)"
        )
    here = Place(str(folder), os.path.realpath(folder))
    found = {}
    for entry, mode in _entries(here, notes):
        if stat.S_ISDIR(mode):
            place = _below(here, entry, notes)
            if place is not None:
                found[entry.name] = place
        elif stat.S_ISREG(mode) and _is_image(entry):
            notes.add("in no class folder", entry.path)
    return found


def image_files(folder: Place, notes: Notes, seen: dict[str, str]) -> list[Path]:
    """The image files in a class folder and the folders in it, sorted by folder, then name.

    Args:
        notes: what is skipped: hidden names, other endings, what is no regular file, and links to
            a folder that holds them.
        seen: the real paths of the folders of all classes so far, and the paths that led there.

    Raises:
        DataError: a folder that cannot be read, or is there twice; a link to nothing.
    """
    found: list[tuple[str, str]] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        known = seen.setdefault(here.real, here.path)
        if known != here.path:
            raise DataError(
                f"{printable(here.path)} and {printable(known)} are one folder: its images would "
                "count twice"
            )
        for entry, mode in _entries(here, notes):
            if stat.S_ISDIR(mode):
                place = _below(here, entry, notes)
                waiting += [] if place is None else [place]
            elif not _is_image(entry):
                notes.add("no images by their ending", entry.path)
            elif not stat.S_ISREG(mode):
                notes.add("no regular files", entry.path)
            else:
                found.append((here.path, entry.name))
    return [Path(parent, name) for parent, name in sorted(found)]


def has_subfolders(folder: Path) -> bool:
    """Whether a folder, if it is one, has folders in it that are not hidden."""
    return folder.is_dir() and bool(subfolders(folder, Notes()))


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in EXTENSIONS


def _entries(folder: Place, notes: Notes) -> Iterator[tuple[os.DirEntry[str], int]]:
    """What a folder holds but for hidden names, each with its kind, links followed; sorted."""
    try:
        with os.scandir(folder.path) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{printable(folder.path)}: not a readable folder ({error.strerror})"
        ) from error
    for entry in ordered:
        if entry.name.startswith(".") or entry.name in LEFT_BEHIND:
            notes.add("hidden", entry.path)
            continue
        yield entry, _kind(entry)


def _kind(entry: os.DirEntry[str]) -> int:
    # The listing tells plain files and folders; only the rest must be looked at.
    if not entry.is_symlink():
        if entry.is_file():
            return stat.S_IFREG
        if entry.is_dir():
            return stat.S_IFDIR
    try:
        return os.stat(entry.path).st_mode
    except OSError as error:
        what = "a link to nothing" if entry.is_symlink() else "cannot be read"
        raise DataError(f"{printable(entry.path)}: {what} ({error.strerror})") from error


def _below(folder: Place, entry: os.DirEntry[str], notes: Notes) -> Place | None:
    """A folder in a folder; None for a link to one that holds it, which would have no end."""
    if not entry.is_symlink():
        return Place(entry.path, os.path.join(folder.real, entry.name))
    real = os.path.realpath(entry.path)
    if os.path.commonpath([real, folder.real]) == real:
        notes.add("links to a folder that holds them", entry.path)
        return None
    return Place(entry.path, real)
