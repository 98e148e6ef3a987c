"""What a dataset may be called, and what its files' reader may be told; no torch."""

from pathlib import Path
from typing import Literal

from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError

KNOWN = ("fashion_mnist", "fashion_mnist_sample", "cifar10", "imagenet")
ExifChoice = Literal["apply", "ignore"]


class DataError(UserError):
    """The data are missing, broken, or not what was asked for."""

    def __init__(self, message: str) -> None:
        if "Original Traceback" in message:  # of a loader's process, by PyTorch: once is enough
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


def check_dataset(dataset: str) -> None:
    """Raises DataError for a dataset that is no known name, .npz file or folder."""
    path = Path(dataset).expanduser()
    if not (dataset in KNOWN or path.is_dir() or (path.is_file() and path.suffix == ".npz")):
        raise DataError(
            f"unknown dataset '{shown(dataset)}': known are {', '.join(KNOWN)}, an .npz file, "
            "or a folder with one folder a class"
        )
