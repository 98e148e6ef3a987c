"""Any labelled images in an .npz file."""

from pathlib import Path

import numpy as np

from diffsmooth.lit.data.images import ArrayImages, DataError, check_labels
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.npz_file import NpzError, read_npz

MOST_CLASSES = 1_000_000  # labels beyond are none


def load_npz(path: Path, info: DatasetInfo | None = None, name: str = "") -> ArrayImages:
    """Reads an .npz file.

    Args:
        path: holds `images` and `labels`, see `labelled_arrays`, and optionally `class_names`,
            strings (K,).
        info: the dataset's facts; without it they are read off the file.
        name: the dataset's, where it is not known; by default the file's.

    Raises:
        DataError: a broken file, a missing array, or one of the wrong type, shape or range.
    """
    try:
        images, labels, named = read_npz(path, ("images", "labels"), optional=("class_names",))
    except NpzError as error:
        raise DataError(f"{path}: {error}") from error
    names = _class_names(named, path)
    if info is None:
        return labelled_arrays(images, labels, path, name or path.stem, names)
    if names and names != info.class_names:
        raise DataError(
            f"{path}: its class_names are not those of {info.name} in their order: a data set "
            "of your own is given by the file's name, or its folder's"
        )
    return ArrayImages(images, labels, info, path)


def labelled_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    source: Path | str,
    name: str,
    class_names: tuple[str, ...] = (),
) -> ArrayImages:
    """Images whose facts are read off them.

    Args:
        images: uint8 (N, H, W) or (N, H, W, C) with C 1 or 3.
        labels: integers (N,).
        source: where they are from, for error messages.
        class_names: K; without them there are as many classes as the largest label says.

    Raises:
        DataError: an array of the wrong type, shape or range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim not in (3, 4) or not len(images):
        raise DataError(f"{source}: images must be (N, H, W[, C]), N > 0, got {images.shape}")
    check_labels(labels, len(images), source)
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in (1, 3):
        raise DataError(
            f"{source}: images must be (N, H, W) or (N, H, W, C) with 1 or 3 channels, the "
            f"channels last, got {images.shape}"
        )
    largest = int(labels.max())
    if largest >= MOST_CLASSES:
        raise DataError(f"{source}: label {largest} of image {int(labels.argmax())} is no class")
    names = class_names or tuple(str(k) for k in range(largest + 1))
    return ArrayImages(
        images, labels, DatasetInfo(name, (channels, *images.shape[1:3]), names), source
    )


def _class_names(array: np.ndarray, path: Path) -> tuple[str, ...]:
    """The names as words; empty where the file has none."""
    if not array.size:
        return ()
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(
            f"{path}: class_names must be strings (K,), got {array.dtype} {array.shape}"
        )
    return tuple(map(str, array))
