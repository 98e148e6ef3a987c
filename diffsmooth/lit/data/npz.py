"""Any labelled images in an .npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from diffsmooth.lit.data.images import ArrayImages, DataError, check_labels
from diffsmooth.models.dataset_info import DatasetInfo


def load_npz(path: Path, info: DatasetInfo | None = None, name: str = "") -> ArrayImages:
    """Reads an .npz file.

    Args:
        path: holds `images`, uint8 (N, H, W) or (N, H, W, C), `labels`, integers (N,), and
            optionally `class_names`, strings (K,).
        info: the dataset's facts; without it they are read off the file, and there are as many
            classes as `class_names`, or as the largest label says.
        name: of the dataset, where it is not known; by default the file's.

    Raises:
        DataError: a broken file, a missing array, or one of the wrong type, shape or range.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = sorted({"images", "labels"} - set(file.files))
            if missing:
                raise DataError(f"{path}: array {missing[0]!r} is missing")
            images, labels = file["images"], file["labels"]
            names = tuple(map(str, file["class_names"])) if "class_names" in file.files else ()
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error
    if info is None:
        if images.ndim not in (3, 4) or not len(images):
            raise DataError(f"{path}: images must be (N, H, W[, C]), N > 0, got {images.shape}")
        check_labels(labels, len(images), path)
        channels = images.shape[3] if images.ndim == 4 else 1
        names = names or tuple(str(k) for k in range(int(labels.max()) + 1))
        info = DatasetInfo(name or path.stem, (channels, *images.shape[1:3]), names)
    return ArrayImages(images, labels, info, path)
