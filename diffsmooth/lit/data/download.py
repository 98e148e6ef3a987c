"""Torchvision's downloads, by one process at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def find_or_download(dataset: Callable[..., Any], root: Path, split: str) -> Any:
    """A torchvision dataset of `root`, downloaded there if it is missing.

    Processes that start together, also on a shared file system, take turns; the later ones find it.

    Raises:
        RuntimeError, OSError: it is missing and cannot be downloaded.
    """
    train = split == "train"
    try:
        return dataset(str(root), train=train, download=False)  # root may be read-only
    except RuntimeError:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"):
            return dataset(str(root), train=train, download=True)
