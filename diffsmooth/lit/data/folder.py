"""Images in one folder a class: ImageNet, or any."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from diffsmooth.lit.data.classes import ALL_SPLITS, label_classes, split_folder, split_folders
from diffsmooth.lit.data.images import DataError, ImageSet, Sample, short_digest
from diffsmooth.lit.data.picture import BROKEN, FORMATS, UnreadableImage
from diffsmooth.lit.data.reading import (
    Reading,
    box_bicubic,
    by,
    crop_own,
    has_eight_bits,
    one_size,
    read_own,
)
from diffsmooth.lit.data.tree import EXTENSIONS, Notes, image_files, printable, subfolders
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, get_dataset_info


@dataclass(eq=False)
class FolderImages(ImageSet):
    """Images read from disk when asked for; see `ImageSet`.

    Attributes:
        paths: the files.
        read: gives the image of a file, (C, H, W) in [0, 1].
        crop: gives another one each time, cropped at random from torch's global stream.
        salt: what the images depend on beside the files.
        eight_bits: whether it is known that all images are of 8 bits a channel.
    """

    paths: list[Path]
    labels: np.ndarray
    info: DatasetInfo
    read: Callable[[Path], Tensor]
    crop: Callable[[Path], Tensor]
    salt: str
    eight_bits: bool
    notes: tuple[str, ...]

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self.read(self.paths[index]), index)

    def randomly_cropped(self, index: int, seed: int) -> Sample:
        """The image cropped at a random scale, shape and place, and resized to the one size.

        As torchvision's RandomResizedCrop does it by default: 0.08 to 1 of the area, 3/4 to 4/3 as
        wide as high, bilinear. It depends on the seed alone; no other random stream is touched.
        """
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global stream
            torch.default_generator.manual_seed(seed)
            return self._sample(self.crop(self.paths[index]), index)

    def _sample(self, image: Tensor, index: int) -> Sample:
        if tuple(image.shape) != self.info.image_shape:
            raise DataError(
                f"{printable(self.paths[index])}: {by(image.shape[1:])}, all others are "
                f"{by(self.info.image_shape[1:])}"
            )
        return Sample(image, int(self.labels[index]), index)

    def off_grid(self, indices: Iterable[int]) -> int | None:
        return None if self.eight_bits else super().off_grid(indices)

    def fingerprint(self) -> str:
        """Of the files' names, sizes and labels: reading all of ImageNet would take too long."""
        digest = hashlib.sha256((str(self.info.image_shape) + self.salt).encode())
        for path, label in zip(self.paths, self.labels, strict=True):
            name = os.fsencode(f"{path.parent.name}/{path.name}")
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataError(f"{printable(path)}: {error.strerror}") from error
            digest.update(name + f" {size} {label}\n".encode())
        return digest.hexdigest()

    def file_name(self, index: int) -> str:
        path = self.paths[index]
        return printable(Path(path.parent.name, path.name))

    def content_digest(self, index: int) -> str:
        path = self.paths[index]
        try:
            return short_digest(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{printable(path)}: not a readable image ({error.strerror})"
            ) from error


def imagenet_info(reading: Reading = Reading()) -> DatasetInfo:
    """ImageNet's facts, at the size that `load_imagenet` gives the images."""
    info, side = get_dataset_info("imagenet"), reading.image_size
    if reading.resize == "box_bicubic" and side is not None:
        return info._replace(image_shape=(info.image_shape[0], side, side))
    return info


def load_imagenet(root: Path, split: str, reading: Reading = Reading()) -> FolderImages:
    """ImageNet-1k from `root`/train or `root`/val, one folder a class named by its WordNet id.

    As in the field's evaluations the shorter side is resized to 256, and the middle 224 x 224 is
    the image; an EXIF orientation is ignored. A folder with some of the classes only still gets
    the canonical labels 0 .. 999.

    Args:
        root: the folder.
        split: "train" or "test".
        reading: box_bicubic resizes otherwise, and with an `image_size` N the shorter side is N and
            the middle N x N the image: as diffusion models are trained, with N = 256.

    Raises:
        DataError: the folder is missing, or holds a class that is not ImageNet's.
    """
    from timm.data import ImageNetInfo

    folder, notes = root / {"train": "train", "test": "val"}[split], Notes()
    found = subfolders(folder, notes)
    if not found:
        raise DataError(f"{printable(folder)}: no class folders in it, named by WordNet ids")
    canonical = {wordnet_id: k for k, wordnet_id in enumerate(ImageNetInfo().label_names())}
    unknown = sorted(set(found) - set(canonical))
    if unknown:
        raise DataError(f"{printable(folder / unknown[0])}: not one of ImageNet's 1000 WordNet ids")
    seen: dict[str, str] = {}
    files = [(path, canonical[name]) for name in found
             for path in image_files(found[name], notes, seen)]  # fmt: skip
    paths, labels = _split_pairs(files, folder)
    info = imagenet_info(reading)
    size = info.image_shape[1:]
    resize: Callable[[Image.Image], Image.Image] = v2.Resize(256)
    if reading.resize == "box_bicubic":
        resize = partial(box_bicubic, side=reading.image_size or 256)
    change = v2.Compose([resize, v2.CenterCrop(size)])
    read, crop = partial(_published, change), partial(_published, v2.RandomResizedCrop(size))
    return FolderImages(paths, labels, info, read, crop, _salt(reading), True, notes.lines())


def load_folder(root: Path, split: str, reading: Reading = Reading()) -> FolderImages:
    """Any images, one folder a class, in `root`/`split`, or else in `root`.

    Args:
        root: the folder. The classes are those of all its splits; see `label_classes`.
        split: "train" or "test".
        reading: how the files become images.

    Raises:
        DataError: no class folders or no images; a class without an image; images of several sizes,
            or box_bicubic, without `image_size`; orientations without `exif`; pixels that have no
            one meaning.
    """
    folder, notes = split_folder(root, split), Notes()
    splits = {path: Notes() for path in split_folders(root).values()} | {folder: notes}
    found = {path: subfolders(path, told) for path, told in splits.items()}
    names = set(chain(*found.values()))
    if names <= set(ALL_SPLITS):
        raise DataError(
            f"{printable(folder)}: no class folders in it: images lie in one folder a class"
        )
    seen: dict[str, str] = {}
    files = {name: image_files(place, notes, seen) for name, place in found[folder].items()}
    for name in sorted(names):
        elsewhere = (places[name] for places in found.values() if name in places)
        if not files.get(name) and not any(image_files(p, Notes(), {}) for p in elsewhere):
            raise DataError(
                f"{printable(folder / name)}: a folder without an image would count as a class: "
                f"remove it (known endings: {' '.join(EXTENSIONS)})"
            )
    if reading.resize == "box_bicubic" and reading.image_size is None:
        raise DataError(f"{printable(folder)}: resize box_bicubic needs an image_size to resize to")
    classes = label_classes(names, reading.class_names, folder)
    pairs = [
        (path, label) for name, label in classes.labels.items() for path in files.get(name, ())
    ]
    paths, labels = _split_pairs(pairs, folder)
    size = one_size(paths, reading, folder)
    info = DatasetInfo(
        printable(root.resolve().name), (reading.channels, *size), classes.class_names
    )
    said = (classes.describe(), *notes.lines())
    read = partial(read_own, reading=reading)
    crop = partial(crop_own, reading=reading, crop=v2.RandomResizedCrop(size))
    eight_bits = reading.image_size is not None or all(map(has_eight_bits, paths))
    return FolderImages(paths, labels, info, read, crop, _salt(reading), eight_bits, said)


def _salt(reading: Reading) -> str:
    """What the images depend on beside their files and their size."""
    exif = "exif apply" if reading.exif == "apply" else ""
    return exif + (reading.resize if reading.resize != "bilinear" else "")


def _split_pairs(files: list[tuple[Path, int]], folder: Path) -> tuple[list[Path], np.ndarray]:
    if not files:
        endings = " ".join(EXTENSIONS)
        raise DataError(f"{printable(folder)}: no image in it (known endings: {endings})")
    return [path for path, _ in files], np.array([label for _, label in files], np.int64)


def _published(change: Callable[[Image.Image], Image.Image], path: Path) -> Tensor:
    try:
        with Image.open(path, formats=FORMATS) as opened:  # torchvision's opens what Pillow knows
            picture = change(opened.convert("RGB"))
    except BROKEN as error:
        said = printable(error)
        raise UnreadableImage(f"{printable(path)}: not a readable image ({said})") from error
    return F.to_dtype(F.to_image(picture), scale=True)
