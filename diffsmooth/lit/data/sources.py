"""From what the user calls a dataset to its images."""

from pathlib import Path

from diffsmooth.lit.data.cifar10 import load_cifar10
from diffsmooth.lit.data.classes import split_folders
from diffsmooth.lit.data.fashion_mnist import load_fashion_mnist, load_fashion_mnist_sample
from diffsmooth.lit.data.folder import (
    FolderImages,
    imagenet_info,
    load_folder,
    load_imagenet,
)
from diffsmooth.lit.data.images import DataError, ImageSet
from diffsmooth.lit.data.names import KNOWN, check_dataset
from diffsmooth.lit.data.npz import load_npz
from diffsmooth.lit.data.reading import Reading, by
from diffsmooth.lit.data.tree import printable
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info


def load_images(
    dataset: str,
    root: Path | str = "data",
    split: str = "test",
    reading: Reading = Reading(),
) -> ImageSet:
    """The images of a dataset.

    Args:
        dataset: a name of `KNOWN`, an .npz file, a folder with train.npz and test.npz, or a folder
            (perhaps with train/ and test/ in it) with one folder of images a class.
        root: where a known dataset lies; `root`/`split`.npz is taken if it is there.
        split: "train" or "test". fashion_mnist_sample and an .npz file have one split only.
        reading: how a folder's files become images. The others have a size of their own, which
            `image_size` may repeat, and no EXIF; ImageNet takes `resize`, too, and then a size.

    Raises:
        DataError: an unknown dataset or split, or files that are missing or broken.
    """
    if split not in ("train", "test"):
        raise DataError(f"split must be train or test, got {split!r}")
    path = Path(dataset).expanduser()
    if is_folder(dataset):
        return load_folder(path, split, reading)
    images = _load_known(dataset, Path(root).expanduser(), split, reading)
    if reading.resize != "bilinear" and not isinstance(images, FolderImages):
        raise DataError(f"resize {reading.resize} is for images in files, {dataset} is arrays")
    if reading.exif is not None:
        raise DataError(f"exif is for folders of your own images, {dataset} is taken as published")
    size = images.info.image_shape[1:]
    if reading.image_size is not None and size != (reading.image_size,) * 2:
        raise DataError(
            f"image_size is for folders of your own images: {dataset} has {by(size)}, "
            f"got {reading.image_size}"
        )
    return images


def is_folder(dataset: str) -> bool:
    """Whether a dataset is a folder of one's own with one folder a class, or nearly."""
    path = Path(dataset).expanduser()
    packed = any((path / f"{split}.npz").is_file() for split in ("train", "test"))
    return dataset not in KNOWN and path.is_dir() and not packed


def _load_known(dataset: str, root: Path, split: str, reading: Reading) -> ImageSet:
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
        if dataset == "cifar10":
            return load_cifar10(root, split)
        return load_imagenet(root, split, reading)
    path = Path(dataset).expanduser()
    if path.is_dir():
        packed = path / f"{split}.npz"
        if not packed.is_file():
            other = {"train": "test", "test": "train"}[split]
            raise DataError(f"{printable(path)}: holds {other}.npz, but no {split}.npz")
        return load_npz(packed, name=printable(path.name or path.resolve().name))
    check_dataset(dataset)
    return load_npz(path, name=printable(path.stem))


def has_test_split(dataset: str) -> bool:
    """Whether a dataset's test images are others than its training images."""
    return dataset in KNOWN or _has(dataset, "test")


def has_train_split(dataset: str) -> bool:
    """Whether a dataset's training images are others than its test images."""
    return (dataset in KNOWN and dataset != "fashion_mnist_sample") or _has(dataset, "train")


def _has(dataset: str, split: str) -> bool:
    path = Path(dataset).expanduser()
    return (path / f"{split}.npz").is_file() or split in split_folders(path)


def describe_dataset(dataset: str, reading: Reading = Reading()) -> DatasetInfo:
    """The facts of a dataset; those of a known one without reading it.

    Raises:
        DataError: see `load_images`.
    """
    if dataset == "imagenet":
        return imagenet_info(reading)
    if dataset in KNOWN and dataset != "fashion_mnist_sample":
        return get_dataset_info(dataset)
    return load_images(dataset, split="test" if dataset in KNOWN else "train", reading=reading).info
