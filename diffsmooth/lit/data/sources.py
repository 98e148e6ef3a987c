"""From what the user calls a dataset to its images."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffsmooth.lit.data.classes import split_folder, split_folders
from diffsmooth.lit.data.folder import FolderImages, load_folder
from diffsmooth.lit.data.images import DataError, ImageSet
from diffsmooth.lit.data.names import DATASETS, ExifChoice, KnownDataset, check_dataset
from diffsmooth.lit.data.npz import labelled_arrays, load_npz
from diffsmooth.lit.data.reading import Reading, by, sizes_of
from diffsmooth.lit.data.tree import Notes, image_files, printable, subfolders
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.stats.registry import check_call, is_code, resolved


def load_images(
    dataset: str, root: Path | str = "data", split: str = "test", reading: Reading = Reading()
) -> ImageSet:
    """The images of a dataset.

    Args:
        dataset: a word of `DATASETS` or a factory, an .npz file, a folder with train.npz and
            test.npz, or a folder (perhaps with train/ and test/ in it) with one folder a class.
        root: where a known dataset lies; `root`/`split`.npz is taken if it is there.
        split: "train" or "test". fashion_mnist_sample and an .npz file have one split only.
        reading: how a folder's files become images. The others have a size of their own, which
            `image_size` may repeat, and no EXIF; ImageNet takes `resize`, too, and then a size.

    Raises:
        DataError: an unknown dataset or split, or files that are missing or broken.
    """
    if split not in ("train", "test"):
        raise DataError(f"split must be train or test, got {split!r}")
    path = Path(os.path.expanduser(dataset))
    if is_folder(dataset):
        return load_folder(path, split, reading)
    if is_named(dataset):
        images = _load_named(dataset, Path(os.path.expanduser(root)), split, reading)
    elif path.is_dir():
        packed = path / f"{split}.npz"
        if not packed.is_file():
            other = {"train": "test", "test": "train"}[split]
            raise DataError(f"{printable(path)}: holds {other}.npz, but no {split}.npz")
        images = load_npz(packed, name=printable(path.name or path.resolve().name))
    else:
        check_dataset(dataset)
        images = load_npz(path, name=printable(path.stem))
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
    path = Path(os.path.expanduser(dataset))
    packed = any((path / f"{split}.npz").is_file() for split in ("train", "test"))
    return dataset not in DATASETS and path.is_dir() and not packed


def has_several_sizes(dataset: str, split: str, exif: ExifChoice | None) -> bool:
    """Whether it is such a folder, and its files need an `image_size` to become images."""
    if not is_folder(dataset):
        return False
    places = subfolders(split_folder(Path(os.path.expanduser(dataset)), split), Notes()).values()
    return len(sizes_of([p for place in places for p in image_files(place, Notes(), {})], exif)) > 1


def is_named(dataset: str) -> bool:
    """Whether it is a word of `DATASETS`, or a factory of another package's."""
    return dataset in DATASETS or is_code(dataset)


def _load_named(dataset: str, root: Path, split: str, reading: Reading) -> ImageSet:
    known, packed = DATASETS[dataset], root / f"{split}.npz"
    if isinstance(known, KnownDataset):
        if packed.is_file() and not known.shipped:
            return load_npz(packed, _facts(known, Reading()))
        return resolved(known.load)(root, split, reading)
    what = "called with the root and the split, that gives the images"
    check_call(dataset, known, what, root, split)
    made = known(root, split)
    if isinstance(made, tuple) and len(made) == 2:
        return labelled_arrays(*made, source=dataset, name=dataset)
    if not isinstance(made, ImageSet):
        raise DataError(f"{dataset}: must make an ImageSet, or (images, labels), got {type(made)}")
    return made


def has_split(dataset: str, split: str) -> bool:
    """Whether a dataset's images of a split, train or test, are others than the other split's."""
    if dataset in DATASETS:
        return split == "test" or not DATASETS[dataset].shipped
    path = Path(os.path.expanduser(dataset))
    return is_code(dataset) or (path / f"{split}.npz").is_file() or split in split_folders(path)


def describe_dataset(
    dataset: str | DatasetInfo | Mapping[str, Any],
    reading: Reading = Reading(),
    root: Path | str = "data",
) -> DatasetInfo:
    """The facts of a dataset (see `load_images`), or those given; a known one is not read."""
    if not isinstance(dataset, str):
        return DatasetInfo(**dataset) if isinstance(dataset, Mapping) else dataset
    known = DATASETS[dataset] if is_named(dataset) else None
    if isinstance(known, KnownDataset):
        return _facts(known, reading)
    return load_images(dataset, root, "train", reading).info


def _facts(known: KnownDataset, reading: Reading) -> DatasetInfo:
    return resolved(known.info)(reading) if isinstance(known.info, str) else known.info
