"""How images of one's own are read from their files, and the one size that they have."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.picture import (
    ExifChoice,
    Header,
    UnreadableImage,
    read_header,
    read_picture,
)
from diffsmooth.lit.data.tree import printable

ResizeKind = Literal["bilinear", "box_bicubic"]

SIZES_SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """How images of one's own are read from their files.

    Attributes:
        image_size: N: the shorter side is resized to N and rounded to 8 bits, then the middle N x N
            is cut out. None: all files have one size, and stay as they are.
        exif: whether the orientation that a file carries is applied or ignored; None: none does.
        channels: 3, or 1 for grey.
        class_names: the classifier's classes, where it names them; see `labels_of`.
        resize: bilinear, antialiased; or as OpenAI's diffusion models were trained: see
            `box_bicubic`. What is certified is resized bilinearly.
    """

    image_size: int | None = None
    exif: ExifChoice | None = None
    channels: int = 3
    class_names: tuple[str, ...] = ()
    resize: ResizeKind = "bilinear"

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise DataError(f"image_size must be at least 1, got {self.image_size}")
        if self.exif not in (None, "apply", "ignore"):
            raise DataError(f"exif must be apply or ignore, got {self.exif!r}")
        if self.resize not in ("bilinear", "box_bicubic"):
            raise DataError(f"resize must be bilinear or box_bicubic, got {self.resize!r}")


def read_own(path: Path, reading: Reading) -> Tensor:
    """The image of a file, (C, H, W) in [0, 1].

    Raises:
        DataError: see `read_picture`; or it is so narrow that resizing would fill the memory.
    """
    image, side = read_picture(path, reading.channels, reading.exif), reading.image_size
    if side is None:
        return image
    height, width = image.shape[1:]
    if side**2 * max(height, width) > min(height, width) * (Image.MAX_IMAGE_PIXELS or 10**8):
        raise DataError(f"{printable(path)}: {by((height, width))} is too narrow for {side}")
    if reading.resize == "box_bicubic":
        picture = F.to_pil_image((255 * image).round().to(torch.uint8))
        return F.pil_to_tensor(box_bicubic(picture, side)).float() / 255
    return _eight_bits(F.center_crop(F.resize(image, [side], antialias=True), [side, side]))


def crop_own(path: Path, reading: Reading, crop: v2.RandomResizedCrop) -> Tensor:
    """The image of a file cropped at random before any resizing, (C, H, W) in [0, 1].

    Raises:
        DataError: see `read_picture`.
    """
    return _eight_bits(crop(read_picture(path, reading.channels, reading.exif)))


def _eight_bits(image: Tensor) -> Tensor:
    return (255 * image).round().clamp(0, 255) / 255  # ImageNet's pixels, too, have 8 bits


def box_bicubic(picture: Image.Image, side: int) -> Image.Image:
    """The middle side x side of a picture whose shorter side is made `side`.

    It is halved by Pillow's box filter (each pixel the mean of 2 x 2, where the sides are even) for
    as long as its shorter side is at least twice what is wanted, and then resized by the bicubic
    one. Of an odd rest beside the middle the larger half is cut off behind it.

    Args:
        picture: the picture, of 8 bits a channel.
        side: in pixels, at least 1.

    Source: openai/guided-diffusion, guided_diffusion/image_datasets.py (center_crop_arr).
    """
    width, height = picture.size
    while min(width, height) >= 2 * side:
        width, height = width // 2, height // 2
        picture = picture.resize((width, height), Image.Resampling.BOX)
    scale = side / min(width, height)
    width, height = round(width * scale), round(height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def one_size(paths: list[Path], reading: Reading, folder: Path) -> tuple[int, int]:
    """(height, width) of the images, from the headers of their files as far as need be.

    Raises:
        DataError: several sizes, or an orientation, of which nobody has said what to do.
    """
    side, exif = reading.image_size, reading.exif
    if side is not None and exif == "apply":
        return side, side
    sizes: Counter[tuple[int, int]] = Counter()
    first: dict[tuple[int, int], Path] = {}
    oriented = []
    for path in paths:
        header = _header_of(path)
        if header is None:
            continue
        if header.orientation > 1 and (exif is None or (exif == "ignore" and header.turned)):
            oriented.append(path)
        sizes[header.size(exif)] += 1
        first.setdefault(header.size(exif), path)
    if oriented:
        name = printable(oriented[0].relative_to(folder))
        what = (
            "say by --exif apply (turned, as viewers show them) or --exif ignore (as stored) what "
            "to do"
            if exif is None
            else "a TIFF's own cannot be ignored: turn it when you save it, or give --exif apply"
        )
        raise DataError(
            f"{printable(folder)}: {len(oriented)} of its {len(paths)} images carry an EXIF "
            f"orientation, {name} the first: {what}"
        )
    if side is not None:
        return side, side
    if not sizes:
        raise DataError(f"{printable(folder)}: none of its {len(paths)} images can be read")
    if len(sizes) > 1:
        said = [f"{by(size)} ({n})" for size, n in sizes.most_common(SIZES_SHOWN)]
        more = f" and {len(sizes) - SIZES_SHOWN} more" if len(sizes) > SIZES_SHOWN else ""
        rare = min(sizes, key=lambda size: sizes[size])
        raise DataError(
            f"{printable(folder)}: its {len(paths)} images have {len(sizes)} sizes: "
            f"{', '.join(said)}{more} (height x width; "
            f"{printable(first[rare].relative_to(folder))} is {by(rare)}); the noise is added at "
            "one size: give --image_size N (the shorter side is resized to N, the middle N x N "
            "cut out)"
        )
    return next(iter(sizes))


def sizes_of(paths: list[Path], exif: ExifChoice | None) -> set[tuple[int, int]]:
    """(height, width) of all the files that can be read."""
    return {header.size(exif) for header in map(_header_of, paths) if header is not None}


def has_eight_bits(path: Path) -> bool:
    """Whether a file holds an image of 8 bits a channel, or none that can be read."""
    header = _header_of(path)
    return header is None or header.depth == 8


def _header_of(path: Path) -> Header | None:
    """The header of a file; None where it cannot be read: it fails alone, when its turn comes."""
    try:
        return _stored_header(str(path), path.stat().st_mtime_ns, path.stat().st_size)
    except (UnreadableImage, OSError):
        return None


@lru_cache(maxsize=2**17)  # a training asks for the same images several times
def _stored_header(path: str, changed: int, size: int) -> Header:
    return read_header(Path(path))


def by(size: Sequence[int]) -> str:
    """Such as 224 x 224."""
    return " x ".join(map(str, size))
