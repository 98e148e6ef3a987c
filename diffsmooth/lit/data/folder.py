"""Images in one folder a class: ImageNet, or any."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets.folder import default_loader, make_dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from diffsmooth.lit.data.images import DataError, ImageSet, Sample, short_digest
from diffsmooth.models.dataset_info import DatasetInfo, get_dataset_info

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class FolderImages(ImageSet):
    """Images read from disk when asked for.

    Args:
        folder: holds one folder a class.
        info: the dataset's facts.
        class_index: label of each class folder.
        resize: the shorter side is resized to so many pixels before the crop.

    Raises:
        DataError: no image in the folder.
    """

    def __init__(
        self, folder: Path, info: DatasetInfo, class_index: dict[str, int], resize: int = 1
    ) -> None:
        try:
            files = make_dataset(folder, class_index, EXTENSIONS, allow_empty=True)
        except OSError as error:
            raise DataError(f"{folder}: not a readable folder ({error})") from error
        if not files:
            raise DataError(f"{folder}: no image in it (known endings: {' '.join(EXTENSIONS)})")
        self.info = info
        self.paths = [Path(path) for path, _ in files]
        self.labels = np.array([label for _, label in files], dtype=np.int64)
        self._transform = v2.Compose([v2.Resize(resize), v2.CenterCrop(info.image_shape[1:])])

    def __getitem__(self, index: int) -> Sample:
        picture = self._transform(_open(self.paths[index]))
        image = F.to_dtype(F.to_image(picture), scale=True)
        return Sample(image, int(self.labels[index]), index)

    def fingerprint(self) -> str:
        """Of the files' names, sizes and labels: reading all of ImageNet would take too long."""
        digest = hashlib.sha256(str(self.info.image_shape).encode())
        for path, label in zip(self.paths, self.labels, strict=True):
            digest.update(
                f"{path.parent.name}/{path.name} {path.stat().st_size} {label}\n".encode()
            )
        return digest.hexdigest()

    def content_digest(self, index: int) -> str:
        path = self.paths[index]
        try:
            return short_digest(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: not a readable image ({error.strerror})") from error


def load_imagenet(root: Path, split: str) -> FolderImages:
    """ImageNet-1k from `root`/train or `root`/val, one folder a class named by its WordNet id.

    A folder with some of the classes only still gets the canonical labels 0 .. 999.

    Raises:
        DataError: the folder is missing, or holds a class that is not ImageNet's.
    """
    from timm.data import ImageNetInfo

    folder = root / {"train": "train", "test": "val"}[split]
    found = _class_folders(folder)
    canonical = {wordnet_id: k for k, wordnet_id in enumerate(ImageNetInfo().label_names())}
    unknown = sorted(set(found) - set(canonical))
    if unknown:
        raise DataError(f"{folder / unknown[0]}: not one of ImageNet's 1000 WordNet ids")
    info = get_dataset_info("imagenet")
    # As in the field's evaluations: the shorter side to 256, then the middle 224 x 224.
    return FolderImages(folder, info, {c: canonical[c] for c in found}, resize=256)


def load_folder(root: Path, split: str, side: int | None = None) -> FolderImages:
    """Any images, one folder a class, in `root`/`split` or else in `root`.

    Args:
        root: the folder. Labels are by the sorted names of the class folders of all its splits.
        split: "train" or "test".
        side: images are cropped to 3 x side x side; by default the shorter side of the first
            image, at most 224.

    Raises:
        DataError: no class folders or no images.
    """
    splits = [root / name for name in ("train", "test") if (root / name).is_dir()] or [root]
    classes = sorted({name for folder in splits for name in _class_folders(folder)})
    class_index = {name: k for k, name in enumerate(classes)}
    folder = root / split if (root / split).is_dir() else root
    info = DatasetInfo(root.resolve().name, (3, 1, 1), tuple(classes))
    here = {name: class_index[name] for name in _class_folders(folder)}
    if side is None:
        first = FolderImages(folder, info, here).paths[0]
        side = min(224, *_open(first).size)
    return FolderImages(folder, info._replace(image_shape=(3, side, side)), here, resize=side)


def _open(path: Path) -> Image.Image:
    try:
        return default_loader(str(path))
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error})") from error


def _class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    classes = sorted(name for name in names if not name.startswith("."))
    if not classes:
        raise DataError(f"{folder}: no class folders in it")
    return classes
