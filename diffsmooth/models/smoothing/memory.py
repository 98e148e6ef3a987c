"""Out of memory: the fault of the batch, and of no image."""

import errno
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diffsmooth.stats.errors import UserError

# Of plain RuntimeErrors: torch's allocator on CPUs, CUDA's libraries, Python's threads; and of
# ImportErrors: the loader of shared libraries.
SAID = re.compile(
    r"out of memory|(can't|cannot) allocate memory|not enough memory|ALLOC_FAILED"
    r"|can't start new thread|failed to map segment|bad_alloc",
    re.I,
)


class OutOfMemory(UserError):
    """What was asked for does not fit into the device's memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory, in whatever class it comes."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and SAID.search(str(error)) is not None


def in_short(error: BaseException) -> str:
    """What an exception says, in the space of a line."""
    return textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")


@contextmanager
def memory_for(batch: int) -> Iterator[None]:
    """Makes out of memory, in forward passes of `batch` votes, an error that says what to do.

    Raises:
        OutOfMemory: instead of whatever said so.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory at batch {batch}: give a smaller one, --batch or batch= "
            f"({in_short(error)})"
        ) from error
