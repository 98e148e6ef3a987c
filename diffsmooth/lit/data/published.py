"""Fashion-MNIST and CIFAR-10, downloaded by torchvision where they are not on the disk."""

import gzip
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from diffsmooth.lit.data.images import ArrayImages, DataError
from diffsmooth.lit.data.npz import load_npz
from diffsmooth.lit.data.reading import Reading
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST
from diffsmooth.npz_file import DEFLATE_RATIO

# Where Debian's package dataset-fashion-mnist puts the files.
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SAYS_WHERE = "--data_root, or --data.root of a training, says where"
SAMPLE = Path(__file__).parent / "fashion_mnist_sample.npz"


def load_fashion_mnist(root: Path, split: str, reading: Reading = Reading()) -> ArrayImages:
    """Fashion-MNIST's 60,000 training or 10,000 test images, zero-padded to 1 x 32 x 32.

    Looks for the four idx files, packed or not, in `root`, then in torchvision's folder under it,
    then in Debian's system folder, and last lets torchvision download them to `root`.

    Raises:
        DataError: the files are nowhere and cannot be downloaded, or are broken.

    Source: Xiao et al. 2017 (MIT licence).
    """
    prefix = {"train": "train", "test": "t10k"}[split]
    for folder in (root, root / "FashionMNIST" / "raw", SYSTEM_FOLDER):
        for ending in ("", ".gz"):
            images = folder / f"{prefix}-images-idx3-ubyte{ending}"
            labels = folder / f"{prefix}-labels-idx1-ubyte{ending}"
            if images.is_file() and labels.is_file():
                return ArrayImages(_read_idx(images), _read_idx(labels), FASHION_MNIST, images)
    absent = (
        f"Fashion-MNIST is neither under {root} nor in {SYSTEM_FOLDER} "
        f"(apt-get install dataset-fashion-mnist; {SAYS_WHERE})"
    )
    data = _find_or_download("FashionMNIST", root, split, absent)
    return ArrayImages(data.data.numpy(), data.targets.numpy(), FASHION_MNIST, root)


def load_fashion_mnist_sample(root: Path, split: str, reading: Reading) -> ArrayImages:
    """The package's 1,000 test images of Fashion-MNIST: 100 a class, stored class by class."""
    if split != "test":
        raise DataError("fashion_mnist_sample holds test images only")
    return load_npz(SAMPLE, FASHION_MNIST._replace(name="fashion_mnist_sample"))


def load_cifar10(root: Path, split: str, reading: Reading = Reading()) -> ArrayImages:
    """CIFAR-10's 50,000 training or 10,000 test images (Krizhevsky 2009).

    Raises:
        DataError: not under `root`, and cannot be downloaded.
    """
    absent = f"CIFAR-10 is not under {root} (cifar-10-batches-py, or {split}.npz; {SAYS_WHERE})"
    data = _find_or_download("CIFAR10", root, split, absent)
    return ArrayImages(data.data, np.asarray(data.targets), CIFAR10, root)


def _read_idx(path: Path) -> np.ndarray:
    """An array from an idx file (format: the MNIST page of LeCun et al.)."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\x00\x00\x08":
                raise ValueError("wrong magic number")
            shape = np.frombuffer(file.read(4 * head[3]), ">u4").tolist()
            claimed = math.prod(shape)
            if claimed > DEFLATE_RATIO * path.stat().st_size:
                raise ValueError(f"claims {claimed:,} bytes, more than it can hold")
            content = file.read(claimed + 1)
        return np.frombuffer(content, np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path}: not a readable idx file ({error})") from error


def _find_or_download(name: str, root: Path, split: str, absent: str) -> Any:
    """A torchvision dataset of `root`, downloaded there if it is missing.

    Processes that start together, also on a shared file system, take turns; the later ones find it.

    Raises:
        DataError: it is missing and cannot be downloaded; `absent` says where it was looked for.
    """
    from torchvision import datasets

    dataset, train = getattr(datasets, name), split == "train"
    was_there = root.exists()
    try:
        try:
            return dataset(str(root), train=train, download=False)  # root may be read-only
        except RuntimeError:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(lock := root / ".download.lock"):
                try:
                    return dataset(str(root), train=train, download=True)
                finally:  # whoever waits for it finds the data, or fails alike
                    lock.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        if not was_there:
            with suppress(OSError):  # it holds something
                root.rmdir()
        raise DataError(f"{absent} and cannot be downloaded ({error})") from error
