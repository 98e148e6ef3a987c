"""Arrays from .npz files, believed only as far as the files bear it out; of no floor."""

import math
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from diffsmooth.stats.errors import UserError

DEFLATE_RATIO = 1032  # no deflate stream is denser
MEMINFO, CGROUP_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


class NpzError(UserError):
    """Not a readable .npz file."""


def read_npz(
    path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> list[np.ndarray]:
    """Arrays of an .npz file.

    What an array claims to be is compared with the room that it has in the file before memory is
    given to it, and its checksum is verified.

    Args:
        path: the file's.
        names: the arrays' names.
        optional: names of arrays that may be missing: an empty array stands for one.

    Returns:
        The arrays, in the order of names, then optional.

    Raises:
        NpzError: a broken file, a missing array, one of Python objects, or one that claims more
            than the file or this machine's memory can hold. The message does not name the file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            size = os.path.getsize(path)
            held = [member.filename for member in file.infolist()]
            arrays = []
            for name in (*names, *optional):
                count = held.count(f"{name}.npy")
                if count > 1:
                    raise NpzError(f"holds {count} arrays {name!r}")
                if not count and name in names:
                    raise NpzError(f"array {name!r} is missing")
                arrays.append(_read_array(file, name, size) if count else np.zeros(0))
            return arrays
    except NpzError:
        raise
    # What zipfile, its decompressors and NumPy raise for files that are not what they should be.
    except (OSError, EOFError, ValueError, TypeError, SyntaxError, RuntimeError, MemoryError,
            OverflowError, TokenError, zlib.error, zipfile.BadZipFile) as error:  # fmt: skip
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise NpzError(f"not a readable .npz file ({said})") from error


def _read_array(file: zipfile.ZipFile, name: str, size: int) -> np.ndarray:
    member = file.getinfo(f"{name}.npy")
    stored = member.compress_type == zipfile.ZIP_STORED
    if not stored and member.compress_type != zipfile.ZIP_DEFLATED:
        raise NpzError(f"array {name!r} is compressed by a method that NumPy does not use")
    room = member.compress_size * (1 if stored else DEFLATE_RATIO)
    in_file = member.header_offset + member.compress_size <= size
    if not in_file or member.file_size > room:
        raise NpzError(
            f"array {name!r} claims {member.file_size:,} bytes, more than the file can hold"
        )
    with file.open(member) as content:
        claimed, header = _claimed_bytes(content, name)
    if claimed != member.file_size - header:
        raise NpzError(
            f"array {name!r} claims {claimed:,} bytes, its place in the file holds "
            f"{member.file_size - header:,}"
        )
    if claimed > available_memory():
        raise NpzError(
            f"array {name!r} takes {claimed:,} bytes, this machine has {available_memory():,} free"
        )
    with file.open(member) as content:
        array = np.lib.format.read_array(content, allow_pickle=False)
        content.read(1)  # past the end, so that the checksum is compared
    return array


def _claimed_bytes(content: IO[bytes], name: str) -> tuple[int, int]:
    """The bytes that an array's header claims, and those of the header itself."""
    version = np.lib.format.read_magic(content)
    if version not in ((1, 0), (2, 0)):
        raise NpzError(f"array {name!r} is of a .npy version that we do not read")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(content)
    if dtype.hasobject:
        raise NpzError(f"array {name!r} holds Python objects, which could run code")
    if min(shape, default=0) < 0:
        raise NpzError(f"array {name!r} is of shape {shape}")
    return math.prod(shape) * dtype.itemsize, content.tell()


def available_memory() -> int:
    """Bytes of memory that this process could still take, about."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if MEMINFO.is_file():
        found += [
            1024 * int(line.split()[1])
            for line in MEMINFO.read_text().splitlines()
            if line.startswith("MemAvailable:")
        ]
    if CGROUP_LIMIT.is_file() and (limit := CGROUP_LIMIT.read_text().strip()).isdigit():
        found.append(int(limit))
    return min(found)
