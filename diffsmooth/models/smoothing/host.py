"""The host: its cores, and whether the memory of freed tensors is kept for the next ones."""

import ctypes
import os
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # to which glibc raises it by itself, and the other to twice it


def usable_cores() -> int:
    """How many cores of this host we may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def keep_memory() -> None:
    """Keeps the memory of freed tensors for the next ones, in the whole process.

    glibc returns large ones to the system, which then clears each page anew.
    """
    _set_thresholds(trim=2**31 - 1, mmap=2**30)


def give_memory_back() -> None:
    """Ends what `keep_memory` began, and returns what is free."""
    _set_thresholds(trim=2 * LARGEST_MMAP_THRESHOLD, mmap=LARGEST_MMAP_THRESHOLD)
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _set_thresholds(trim: int, mmap: int) -> None:
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, trim)
        mallopt(M_MMAP_THRESHOLD, mmap)


def _of_glibc(name: str) -> Any:
    """A function of glibc's; None elsewhere, as of musl."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
