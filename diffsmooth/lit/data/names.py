"""What a dataset may be called, and what its files' reader may be told; no torch."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST, DatasetInfo
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import Registry, is_code

HERE = "diffsmooth.lit.data"


class KnownDataset(NamedTuple):
    """A dataset that has a name.

    Attributes:
        load: makes the images of the root, the split and the reading; or its package.module:name.
        info: the facts; or what makes them of the reading, as package.module:name.
        shipped: whether it is of test images only that lie in the package.
    """

    load: Callable[..., Any] | str
    info: DatasetInfo | str
    shipped: bool = False


# Or, of another package, PACKAGE.MODULE:FACTORY; the factory makes of the root and the split an
# `ImageSet`, or images and labels as an .npz file has them.
DATASETS: Registry[Any] = Registry(
    "dataset",
    fashion_mnist=KnownDataset(f"{HERE}.published:load_fashion_mnist", FASHION_MNIST),
    fashion_mnist_sample=KnownDataset(
        f"{HERE}.published:load_fashion_mnist_sample",
        FASHION_MNIST._replace(name="fashion_mnist_sample"),
        shipped=True,
    ),
    cifar10=KnownDataset(f"{HERE}.published:load_cifar10", CIFAR10),
    imagenet=KnownDataset(f"{HERE}.folder:load_imagenet", f"{HERE}.folder:imagenet_info"),
)
ExifChoice = Literal["apply", "ignore"]


class DataError(UserError):
    """The data are missing, broken, or not what was asked for."""

    def __init__(self, message: str) -> None:
        if "Original Traceback" in message:  # of a loader's process, by PyTorch: once is enough
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


def check_dataset(dataset: str) -> None:
    """Raises DataError for a dataset that is no known name, .npz file, folder or factory."""
    # Everywhere by os.path: pathlib raises where ~NAME is of no user.
    path, name = Path(os.path.expanduser(dataset)), shown(dataset)
    if dataset in DATASETS or is_code(dataset) or path.is_dir():
        return
    if path.is_file():
        if path.suffix == ".npz":
            return
        raise DataError(f"{name}: is no .npz file, and no folder with one folder a class")
    near = ", ".join(_nearest(dataset, path.parent))
    hint = f" (nearest: {near})" if near else ""
    if os.sep in dataset or path.suffix:
        raise DataError(f"{name}: no such file or folder{hint}")
    raise DataError(
        f"unknown dataset '{name}': known are {', '.join(DATASETS)} or PACKAGE.MODULE:FACTORY, and "
        f"no folder or .npz file is called so{hint}"
    )


def _nearest(dataset: str, folder: Path) -> list[str]:
    """Known names, and folders and .npz files beside, that are nearly called so; as they can be
    given."""
    beside = [p for p in folder.glob("*") if p.suffix == ".npz" or p.is_dir()]
    names = {name: name for name in DATASETS}
    names |= {p.name.lower(): shown(Path(dataset).with_name(p.name)) for p in beside}
    return [names[name] for name in get_close_matches(Path(dataset).name.lower(), names)]
