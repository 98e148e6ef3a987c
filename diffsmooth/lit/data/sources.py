"""From what the user calls a dataset to its images."""

from pathlib import Path

from diffsmooth.lit.data.cifar10 import load_cifar10
from diffsmooth.lit.data.fashion_mnist import load_fashion_mnist, load_fashion_mnist_sample
from diffsmooth.lit.data.folder import load_folder, load_imagenet
from diffsmooth.lit.data.images import DataError, ImageSet
from diffsmooth.lit.data.npz import load_npz
from diffsmooth.models.dataset_info import DatasetInfo, get_dataset_info

KNOWN = ("fashion_mnist", "fashion_mnist_sample", "cifar10", "imagenet")


def load_images(
    dataset: str, root: Path | str = "data", split: str = "test", side: int | None = None
) -> ImageSet:
    """The images of a dataset.

    Args:
        dataset: a name of `KNOWN`, an .npz file, a folder with train.npz and test.npz, or a folder
            (perhaps with train/ and test/ in it) with one folder of images a class.
        root: where a known dataset lies; `root`/`split`.npz is taken if it is there.
        split: "train" or "test". fashion_mnist_sample and an .npz file have one split only.
        side: of the images of a folder, in pixels; see `load_folder`.

    Raises:
        DataError: an unknown dataset or split, or files that are missing or broken.
    """
    root = Path(root).expanduser()
    if split not in ("train", "test"):
        raise DataError(f"split must be train or test, got {split!r}")
    if dataset == "fashion_mnist_sample":
        if split != "test":
            raise DataError("fashion_mnist_sample holds test images only")
        return load_fashion_mnist_sample()
    if dataset in KNOWN:
        packed = root / f"{split}.npz"
        if packed.is_file():
            return load_npz(packed, get_dataset_info(dataset))
        if dataset == "fashion_mnist":
            return load_fashion_mnist(root, split)
        return load_cifar10(root, split) if dataset == "cifar10" else load_imagenet(root, split)
    path = Path(dataset).expanduser()
    if path.is_file() and path.suffix == ".npz":
        return load_npz(path)
    if (path / f"{split}.npz").is_file():
        return load_npz(path / f"{split}.npz", name=path.name)
    if path.is_dir():
        return load_folder(path, split, side)
    raise DataError(
        f"unknown dataset {dataset!r}: known are {', '.join(KNOWN)}, an .npz file, "
        "or a folder with one folder a class"
    )


def has_test_split(dataset: str) -> bool:
    """Whether a dataset's test images are others than its training images."""
    path = Path(dataset).expanduser()
    return dataset in KNOWN or (path / "test").is_dir() or (path / "test.npz").is_file()


def has_train_split(dataset: str) -> bool:
    """Whether a dataset's training images are others than its test images."""
    path = Path(dataset).expanduser()
    known = dataset in KNOWN and dataset != "fashion_mnist_sample"
    return known or (path / "train").is_dir() or (path / "train.npz").is_file()


def describe_dataset(dataset: str) -> DatasetInfo:
    """The facts of a dataset; those of a known one without reading it.

    Raises:
        DataError: see `load_images`.
    """
    if dataset in KNOWN and dataset != "fashion_mnist_sample":
        return get_dataset_info(dataset)
    return load_images(dataset, split="test" if dataset in KNOWN else "train").info
