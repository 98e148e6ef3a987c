"""Images that a Python call is given: an array, a tensor, or a dataset, which is read once."""

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffsmooth.lit.data.images import ImageSet, Sample, image_digest
from diffsmooth.lit.data.names import DataError
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.runs.identity import MOST_IMAGES
from diffsmooth.stats.results import NO_LABEL

GIVEN = "images"  # what errors call them
PICTURES = ("L", "RGB")  # Pillow's modes that are pixels and nothing else


class GivenImages(ImageSet):
    """Images in memory, as they were given, under indices of their own.

    Args:
        images: float (N, C, H, W) in [0, 1], or uint8 (N, C, H, W) or (N, H, W, C), a tensor or an
            array; or a dataset of a known length, each item such an image, a picture of Pillow's,
            or (image, label).
        shape: (C, H, W) that they must have.
        num_classes: K.
        labels: integers (N,) in 0 .. K - 1, or None; a dataset's own, if it has any, must agree.
        indices: integers (N,), >= 0 and all different; None for 0 .. N - 1.
        name: of the dataset that the indices are of.

    Attributes:
        indices: as they were given.

    Raises:
        DataError: anything else.
    """

    in_memory = True

    def __init__(
        self,
        images: Any,
        shape: tuple[int, int, int],
        num_classes: int,
        labels: Any = None,
        indices: Any = None,
        name: str = "",
    ) -> None:
        own: list[int | None] = []
        self._images: Sequence[Tensor] | Tensor
        if isinstance(images, Tensor | np.ndarray):
            if images.ndim != 4:
                raise DataError(f"{GIVEN} must be (N, C, H, W), got {tuple(images.shape)}")
            self._images = _pixels(images, shape, GIVEN)
        else:
            items = _items(images)
            self._images = [_pixels(one, shape, f"image {n}") for n, (one, _) in enumerate(items)]
            own = [label for _, label in items]
        total = len(self._images)
        if not total:
            raise DataError(f"there are no {GIVEN}")
        for n, image in enumerate(self._images):
            _check_range(image, n)
        known = _integers("labels", labels, total)
        if own and None not in own:
            told = np.array(own, dtype=np.int64)
            if known is not None and (known != told).any():
                n = int(np.argmax(known != told))
                raise DataError(
                    f"labels: image {n} has {known[n]}, in the dataset it has {told[n]}"
                )
            known = told
        _check_labels(known, num_classes)
        self.is_labelled = known is not None
        self.labels = np.full(total, NO_LABEL) if known is None else known
        given = _integers("indices", indices, total)
        self.indices = list(range(total)) if given is None else given.tolist()
        _check_indices(self.indices)
        self._places = {index: n for n, index in enumerate(self.indices)}
        self.info = DatasetInfo(name, shape, tuple(map(str, range(num_classes))))

    def __getitem__(self, index: int) -> Sample:
        place = self._places[index]
        image = self._images[place]
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return Sample(image, int(self.labels[place]), index)

    def label(self, index: int) -> int | None:
        return int(self.labels[self._places[index]]) if self.is_labelled else None

    def fingerprint(self) -> str:
        return self.content(self.indices)

    def content_digest(self, index: int) -> str:
        return image_digest(self[index].image)


def _items(images: Any) -> list[tuple[Any, int | None]]:
    """The images of a dataset, each with its label or None."""
    try:
        total = len(images)
    except TypeError:
        raise DataError(
            f"{GIVEN} must be a tensor, an array, or a dataset with a length, got a "
            f"{type(images).__name__}"
        ) from None
    if isinstance(images, str | dict) or not hasattr(images, "__getitem__"):
        raise DataError(
            f"{GIVEN} must be a tensor, an array or a dataset whose items are numbered, got a "
            f"{type(images).__name__}"
        )
    return [_item(images[n], n) for n in range(total)]


def _item(item: Any, n: int) -> tuple[Any, int | None]:
    if not isinstance(item, tuple | list):
        return item, None
    if not (len(item) == 2 or isinstance(item, Sample)):
        raise DataError(f"image {n}: an item must be an image or (image, label), got {len(item)}")
    try:
        return item[0], operator.index(item[1])
    except TypeError:
        raise DataError(f"image {n}: its label is no integer, but a {type(item[1])}") from None


def _pixels(given: Any, shape: tuple[int, int, int], what: str) -> Tensor:
    """One image or several of a kind: uint8 or float32 (..., C, H, W)."""
    if isinstance(given, Image.Image):
        if given.mode not in PICTURES:
            raise DataError(f"{what}: a picture of mode {given.mode}: convert it to RGB or L")
        given = np.array(given).reshape(given.height, given.width, -1)
    if isinstance(given, np.ndarray):
        kind = given.dtype.kind
        if given.dtype != np.uint8 and kind != "f":
            raise DataError(f"{what} must be float in [0, 1], or uint8, got {given.dtype}")
        given = torch.from_numpy(np.array(given, dtype=np.float32 if kind == "f" else np.uint8))
    if not isinstance(given, Tensor):
        raise DataError(f"{what}: must be a tensor or an array, got a {type(given).__name__}")
    if given.dtype != torch.uint8 and not given.is_floating_point():
        raise DataError(f"{what} must be float in [0, 1], or uint8, got {given.dtype}")
    channels, height, width = shape
    found = tuple(given.shape[-3:]) if given.ndim == (4 if what == GIVEN else 3) else ()
    first = found == shape
    last = given.dtype == torch.uint8 and found == (height, width, channels)
    if first and last and channels > 1:
        raise DataError(f"{what}: {found} may have its channels first or last: give floats")
    if not first and not last:
        wanted = f"{shape}, or uint8 {(height, width, channels)}"
        raise DataError(
            f"{what} must be of shape {wanted}, as image_shape of the smoothed classifier says, "
            f"got {found or tuple(given.shape)}"
        )
    given = given.detach().to("cpu", torch.uint8 if given.dtype == torch.uint8 else torch.float32)
    return (given if first else given.movedim(-1, -3)).contiguous()


def _check_range(image: Tensor, n: int) -> None:
    """Raises DataError for an image that is not in [0, 1]."""
    if image.dtype == torch.uint8:
        return
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # NaN, too
        raise DataError(
            f"image {n} must lie in [0, 1], its values range from {low:g} to {high:g} (uint8 "
            "images are divided by 255)"
        )


def _integers(name: str, given: Any, total: int) -> np.ndarray | None:
    if given is None:
        return None
    try:
        array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name} must be integers ({total},): {error}") from error
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (total,):
        raise DataError(f"{name} must be integers ({total},), got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def _check_labels(labels: np.ndarray | None, num_classes: int) -> None:
    if labels is None:
        return
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise DataError(
            f"label {labels[bad[0]]} of image {bad[0]} is beyond the classifier's {num_classes} "
            "classes"
        )


def _check_indices(indices: list[int]) -> None:
    if min(indices) < 0 or max(indices) >= MOST_IMAGES:
        raise DataError(f"indices must be >= 0, got {min(indices)} to {max(indices)}")
    if len(set(indices)) < len(indices):
        twice = next(index for index, count in Counter(indices).items() if count > 1)
        raise DataError(f"indices must differ, {twice} stands twice")
