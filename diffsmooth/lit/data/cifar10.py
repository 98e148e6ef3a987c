"""CIFAR-10 (Krizhevsky 2009), through torchvision."""

from pathlib import Path

import numpy as np

from diffsmooth.lit.data.download import find_or_download
from diffsmooth.lit.data.images import ArrayImages, DataError
from diffsmooth.lit.data.reading import Reading
from diffsmooth.models.classifiers.dataset_info import CIFAR10


def load_cifar10(root: Path, split: str, reading: Reading = Reading()) -> ArrayImages:
    """The 50,000 training or 10,000 test images; downloaded to `root` where they are missing.

    Raises:
        DataError: not under `root`, and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

    try:
        data = find_or_download(TorchvisionCIFAR10, root, split)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 is not under {root} (cifar-10-batches-py, or {split}.npz) "
            f"and cannot be downloaded ({error})"
        ) from error
    return ArrayImages(data.data, np.asarray(data.targets), CIFAR10, root)
