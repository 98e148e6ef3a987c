"""Files that are written whole or not at all, and what tells a file; of no floor."""

import fcntl
import glob
import hashlib
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffsmooth.stats.errors import UserError

# Bytes of a file's or folder's name, on all file systems that are in use, and of a whole path.
LONGEST_NAME, LONGEST_PATH = 255, 4095
# Of what is not finished yet; a lock may hold on its own host only.
PARTIAL = f".diffsmooth-{platform.node()[:64]}-"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; at the end the file takes the place of `path`.

    That file is there already, empty, under a name that nobody can foresee, so that no link can
    lead the writing elsewhere. A link at `path` itself is replaced, and what it points to is left
    alone. Permissions are those of any new file.

    Raises:
        UserError: `path` cannot be written; the message names it.
    """
    check_target(path)
    try:
        _remove_leftovers(path.parent)
        partial, handle = _begin(path)
        try:
            yield partial
            os.fsync(handle)
            os.replace(partial, path)
        finally:
            os.close(handle)
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _begin(path: Path) -> tuple[Path, int]:
    """An empty file beside `path`, with a short name whatever that is, and its locked handle."""
    while True:
        partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}.partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(partial, flags, 0o666)  # less the umask
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(partial):
            return partial, handle
        os.close(handle)  # another process took it for a leftover before it was locked


def _remove_leftovers(folder: Path) -> None:
    """Removes what processes of this host that were killed have left half written: unlocked."""
    for leftover in folder.glob(f"{glob.escape(PARTIAL)}*.partial"):
        with suppress(OSError):
            handle = os.open(leftover, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, in a folder that is made if it is missing.

    Raises:
        UserError: it cannot be written; the message names it.
    """
    make_folder(path)
    with whole_file(path) as partial:
        partial.write_bytes(content)


def file_sha256(path: Path | str) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Makes the folder that a file is to be written in.

    Raises:
        UserError: the file could not be written; the message names it.
    """
    check_target(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def check_target(path: Path) -> None:
    """Raises UserError where a file must not, or cannot, take the place of `path`.

    Where the folder is missing, it may still be made.
    """
    check_names(path)
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    if stat.S_ISDIR(kind):
        raise UserError(f"{path}: is a folder, a file is to be written")
    if not stat.S_ISREG(kind):
        raise UserError(f"{path}: is a device or a pipe; a file is to be written")


def check_names(path: Path) -> None:
    """Raises UserError where no file system takes the names in `path`."""
    if "\0" in str(path):
        raise UserError(f"{path}: has a null byte in its name")
    if any(len(os.fsencode(name)) > LONGEST_NAME for name in path.parts):
        raise UserError(f"{path}: a name in it is longer than {LONGEST_NAME} bytes")
    if len(os.fsencode(path.absolute())) > LONGEST_PATH:
        raise UserError(f"{path}: is longer than {LONGEST_PATH} bytes")
