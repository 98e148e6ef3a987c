"""Datasets of labelled images; every item carries the index that it has in the whole dataset."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffsmooth.lit.data.names import DataError
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.smoothing.integer_noise import on_grid


class Sample(NamedTuple):
    """One item.

    Attributes:
        image: float32 (C, H, W), in [0, 1].
        label: class.
        original_index: position in the whole dataset, before any subset or shuffle.
        weight: what its loss counts in training.
    """

    image: Tensor
    label: int
    original_index: int
    weight: float = 1.0


class Batch(NamedTuple):
    """What the loaders make of B samples: (B, C, H, W), and (B,) each, the indices int64."""

    image: Tensor
    label: Tensor
    original_index: Tensor
    weight: Tensor


class ImageSet(Dataset[Sample]):
    """A labelled dataset with its facts.

    Attributes:
        info: the facts.
        labels: int64 (N,).
        notes: lines that its user should read: how classes got their labels, what was skipped.
        in_memory: whether an item costs next to nothing.
        is_labelled: whether the labels are known.
    """

    info: DatasetInfo
    labels: np.ndarray
    notes: tuple[str, ...] = ()
    in_memory: bool = False
    is_labelled: bool = True

    def describe(self) -> str:
        """The size at which the noise is added, then the notes, one a line."""
        shape = " x ".join(map(str, self.info.image_shape))
        return "\n".join([f"images: {len(self):,} of {shape}, {self.info.name}", *self.notes])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def label(self, index: int) -> int | None:
        """The class of an image, None where it is not known."""
        return int(self.labels[index])

    def fingerprint(self) -> str:
        """Hex digest that tells whether two datasets hold the same images and labels."""
        raise NotImplementedError

    def stored_shape(self) -> tuple[int, ...] | None:
        """The shape of an item's image, where all are bytes over 255; else None."""
        return None

    def stored(self, indices: Sequence[int]) -> Tensor:
        """The bytes uint8 (len, *stored_shape) of some images."""
        raise NotImplementedError

    def file_name(self, index: int) -> str:
        """Where an image lies below the dataset's folder; "" where images are not files."""
        return ""

    def off_grid(self, indices: Iterable[int]) -> int | None:
        """The first of some images that is not of 8 bits a channel, among those that can be read.

        None where all are.
        """
        for index in indices:
            try:
                image = self[index].image
            except DataError:
                continue
            if not on_grid(image):
                return index
        return None

    def content(self, indices: Iterable[int]) -> str:
        """Hex digest of some images as they are stored, not decoded, and of their labels."""
        digest = hashlib.sha256()
        for index in indices:
            row = f"{index} {self.label(index)} {self.content_digest(index)}\n"
            digest.update(row.encode())
        return digest.hexdigest()

    def content_digest(self, index: int) -> str:
        """16 hex digits of an image's stored bytes, without decoding them: of its file, or its row.

        Raises:
            DataError: a file that cannot be read.
        """
        raise NotImplementedError


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` indices, at most, from 0 to total - 1."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def image_digest(image: Tensor) -> str:
    """16 hex digits of an image (C, H, W) in [0, 1], as noise is added to it: shape and float32."""
    values = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return short_digest(str(tuple(values.shape)).encode(), values.astype("<f4", copy=False).data)


def short_digest(*parts: bytes | memoryview) -> str:
    """The first 16 hex digits of the parts' sha256."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


# Known datasets whose images are stored smaller, (height, width), and zero-padded evenly.
STORED_SIZES = {"fashion_mnist": (28, 28), "fashion_mnist_sample": (28, 28)}


class ArrayImages(ImageSet):
    """Images held in memory as bytes.

    Args:
        images: uint8 (N, H, W) or (N, H, W, C), of the dataset's size, or of its `STORED_SIZES`.
        labels: integers (N,) in 0 .. num_classes - 1.
        source: the file's name, for error messages.

    Raises:
        DataError: other types, shapes or labels.
    """

    in_memory = True

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, info: DatasetInfo, source: Path | str
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DataError(
                f"{source}: images must be uint8 (N, H, W) or (N, H, W, C), each 0..255, "
                f"got {images.dtype} {images.shape}"
            )
        if images.ndim == 3:
            images = images[..., None]
        check_labels(labels, len(images), source)
        bad = np.flatnonzero((labels < 0) | (labels >= info.num_classes))
        if bad.size:
            raise DataError(
                f"{source}: label {labels[bad[0]]} of image {bad[0]} is beyond the "
                f"{info.num_classes} classes of {info.name}"
            )
        channels, height, width = info.image_shape
        size = images.shape[1:3]
        rows, columns = height - size[0], width - size[1]
        padded = size == STORED_SIZES.get(info.name)
        if images.shape[3] != channels or not (padded or size == (height, width)):
            raise DataError(
                f"{source}: images of {images.shape[1:]} do not fit {info.name}'s "
                f"{channels} x {height} x {width}"
            )
        self.info = info
        self.labels = labels.astype(np.int64)
        self._images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self._padding = (columns // 2, columns // 2, rows // 2, rows // 2)

    def __getitem__(self, index: int) -> Sample:
        image = torch.nn.functional.pad(self._images[index], self._padding).float() / 255
        return Sample(image, int(self.labels[index]), index)

    def stored_shape(self) -> tuple[int, ...]:
        return self.info.image_shape

    def stored(self, indices: Sequence[int]) -> Tensor:
        return torch.nn.functional.pad(self._images[torch.tensor(indices)], self._padding)

    def off_grid(self, indices: Iterable[int]) -> int | None:
        return None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(str((self._images.shape, self.info.image_shape)).encode())
        digest.update(self._images.numpy().tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def content_digest(self, index: int) -> str:
        return short_digest(self._images[index].numpy().data)


def check_labels(labels: np.ndarray, total: int, source: Path | str) -> None:
    """Raises DataError unless the labels are integers (total,)."""
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (total,):
        raise DataError(
            f"{source}: labels must be integers ({total},), got {labels.dtype} {labels.shape}"
        )
