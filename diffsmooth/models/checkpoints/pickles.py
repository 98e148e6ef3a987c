"""Pickles, read without running them: what they would call, and how large they are."""

import io
import pickletools
import re
from pathlib import Path
from typing import IO

# What torch's own loader takes, beside `HARMLESS` of reading.py.
ORDINARY = re.compile(
    r"torch\._utils\.\w+|torch\.(\w+Storage|Size|device|float\w*|half|double|bfloat16|u?int\d+|bool)"
    r"|collections\.OrderedDict|(builtins|__builtin__)\.set|_codecs\.encode"
    r"|argparse\.Namespace|numpy\.(_core|core)\.multiarray\.scalar|numpy\.dtypes?(\.\w+)?"
)
# Harmless to call, but with the size that the file asks for.
ALLOCATES = re.compile(r"(^| )bytearray$")
LEGACY_PICKLES = 4  # magic number, protocol, system, content; what follows are the weights


class LargePickle(Exception):
    """A pickle that no weights need."""


class _Bounded:
    """A file of which no more than a limit is read."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self.limit = limit

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(max(0, self.limit) + 1)
        self._take(len(line))
        return line

    def tell(self) -> int:
        return self._file.tell()

    def _take(self, size: int) -> None:
        self.limit -= size
        if self.limit < 0:
            raise LargePickle("its pickles are larger than weights need")


def scan_file(path: Path, limit: int, a_tensor: int) -> None:
    """Looks through the pickles at the beginning of a file, without making what they hold.

    Args:
        path: a file of the form that torch.save wrote before 1.6, or any.
        limit, a_tensor: bytes that they may have, and so many more for each tensor in them.

    Raises:
        LargePickle: they have more, or would make what no weights need.
    """
    with open(path, "rb") as file:
        _scan(_Bounded(file, limit), a_tensor)


def scan_bytes(content: bytes) -> None:
    """The same for one pickle whose length is known to be harmless."""
    if b"bytearray" in content:
        _scan(_Bounded(io.BytesIO(content), len(content)), 0)


def _scan(stream: _Bounded, a_tensor: int) -> None:
    try:
        for _ in range(LEGACY_PICKLES):
            for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
                stream.limit += a_tensor * (opcode.name == "BINPERSID")
                if isinstance(argument, str) and ALLOCATES.search(argument):
                    raise LargePickle("it makes a bytearray, which may be of any size")
    except LargePickle:
        raise
    except Exception:  # no pickle, or a broken one: for who reads it to say
        return


def begins_as_pickle(path: Path) -> bool:
    """Whether a file begins with a whole pickle; after `scan_file`, which says how long it is."""
    with open(path, "rb") as file:
        try:
            return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(file))
        except Exception:  # no pickle
            return False


def globals_of(stream: IO[bytes]) -> list[str]:
    """Names of the globals of the pickles in a stream, one behind the other."""
    found: list[str] = []
    strings: list[str] = []  # as pushed: STACK_GLOBAL takes the last two, module and name
    memo: list[str] = []
    last: str | None = None  # what the last opcode pushed, where that was a string
    try:
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "MEMOIZE":
                    memo.append(last or "")
                    continue
                if opcode.name == "GLOBAL":
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                    found.append(f"{strings[-2]}.{strings[-1]}")
                last = argument if isinstance(argument, str) else None
                if opcode.name in ("BINGET", "LONG_BINGET"):
                    last = memo[int(str(argument))]
                if last:
                    strings.append(last)
    except Exception:  # the end of the pickles, or of what is one
        return found
