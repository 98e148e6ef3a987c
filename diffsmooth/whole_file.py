"""Files that are written whole or not at all; of no floor, for all floors write some."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffsmooth.stats.errors import UserError

LONGEST_NAME = 255  # bytes of a file's or folder's name, on all file systems that are in use


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
    partial = path.with_name(
        f".diffsmooth-{secrets.token_hex(8)}.partial"
    )  # short, whatever `path` is
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(partial, flags, 0o666)  # less the umask
        try:
            yield partial
            os.fsync(handle)
            os.replace(partial, path)
        finally:
            os.close(handle)
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, in a folder that is made if it is missing.

    Raises:
        UserError: it cannot be written; the message names it.
    """
    check_target(path)  # before a folder is made
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    with whole_file(path) as partial:
        partial.write_bytes(content)


def check_target(path: Path) -> None:
    """Raises UserError where a file must not, or cannot, take the place of `path`.

    Where the folder is missing, it may still be made.
    """
    if any(len(os.fsencode(name)) > LONGEST_NAME for name in path.parts):
        raise UserError(f"{path}: a name in it is longer than {LONGEST_NAME} bytes")
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be written ({reason})") from error
    if stat.S_ISDIR(kind):
        raise UserError(f"{path}: is a folder, a file is to be written")
    if not stat.S_ISREG(kind):
        raise UserError(f"{path}: is a device or a pipe; a file is to be written")
