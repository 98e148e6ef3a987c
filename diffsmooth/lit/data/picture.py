"""One image file: what its header says, and its pixels, without a guess at what they mean."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor
from torchvision.io import decode_png

from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.names import ExifChoice
from diffsmooth.lit.data.tree import printable

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION = 0x0112  # of EXIF, and of TIFF itself
BITS, PHOTOMETRIC, BLACK_IS_ZERO = 258, 262, 1  # of TIFF
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow's grey
# What decoders raise for broken files, beside OSError.
BROKEN = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, SyntaxError, OverflowError,
    MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class UnreadableImage(DataError):
    """A file that is broken, or no image: it fails alone, when its turn comes."""


class Header(NamedTuple):
    """What a file says before its pixels.

    Attributes:
        height, width: in pixels, as stored; of a TIFF as it is turned.
        orientation: as EXIF numbers it: 1 upright, 2 to 8 turned or mirrored.
        turned: whether it is turned already when it is decoded, as TIFF's orientation is.
        depth: bits a channel.
    """

    height: int
    width: int
    orientation: int
    turned: bool
    depth: int

    def size(self, exif: ExifChoice | None) -> tuple[int, int]:
        """(height, width) of the image that `read_picture` gives."""
        sideways = exif == "apply" and self.orientation >= 5 and not self.turned
        return (self.width, self.height) if sideways else (self.height, self.width)


def read_header(path: Path) -> Header:
    """The header of an image file; the pixels are not decoded.

    Raises:
        UnreadableImage: broken or no image.
        DataError: an image whose pixels have no one meaning: see `read_picture`.
    """
    with _opened(path) as picture:
        return _header(picture, _depth(picture, path))


def read_picture(path: Path, channels: int, exif: ExifChoice | None) -> Tensor:
    """The pixels of an image file, (channels, H, W) in [0, 1].

    Args:
        channels: 3, or 1 for grey: colours by their luma.
        exif: whether an orientation is applied or ignored; None where no file has one.

    Raises:
        UnreadableImage: broken or no image.
        DataError: several pictures in a file, a mode without a white level (I, F), without colours
            of its own (CMYK, ...), a depth that Pillow would cut, or pixels that are transparent;
            an orientation without `exif`.
    """
    with _opened(path) as picture:
        depth = _depth(picture, path)
        header = _header(picture, depth)
        if header.orientation > 1 and (exif is None or (exif == "ignore" and header.turned)):
            raise DataError(
                f"{printable(path)}: carries an orientation "
                + ("of TIFF's own, which cannot be ignored: turn it when you save it"
                   if header.turned else "(EXIF): say whether to apply or to ignore it by --exif")
            )  # fmt: skip
        if depth == 8:
            _check_opaque(picture, path)
            values = np.array(picture.convert("L" if channels == 1 else "RGB"))
            # As an .npz file's, to the last bit.
            image = torch.from_numpy(values.reshape(*values.shape[:2], channels)).float() / 255
            image = image.permute(2, 0, 1).contiguous()
        else:
            image = _deep(picture, path, depth, channels)
    return _turned(image, header.orientation) if exif == "apply" and not header.turned else image


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with warnings.catch_warnings():  # of corrupt metadata, and of pictures that are large only
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                yield picture
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(f"{printable(path)}: not a readable image") from error
    except BROKEN as error:
        said = getattr(error, "strerror", None) or printable(error) or type(error).__name__
        raise UnreadableImage(f"{printable(path)}: not a readable image ({said})") from error


def _header(picture: ImageFile.ImageFile, depth: int) -> Header:
    if picture.format == "PNG" and _late_metadata(picture):
        picture.load()  # what stands behind the pixels is known when they are read
        exif = picture.getexif()
    else:  # PNG's own getexif decodes the pixels
        exif = Image.Image.getexif(picture)
    orientation = exif.get(ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    width, height = picture.size
    return Header(height, width, orientation, picture.format == "TIFF", depth)


def _late_metadata(picture: ImageFile.ImageFile) -> bool:
    """Whether a PNG has text or EXIF behind its first pixels."""
    file = picture.fp
    assert file is not None
    place, pixels = file.tell(), False
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(size + 4, 1)
        return False
    finally:
        file.seek(place)


def _depth(picture: ImageFile.ImageFile, path: Path) -> int:
    """Bits a channel: 8 for all that Pillow gives whole in 8 bits, more where `_deep` must read.

    Raises:
        DataError: neither.
    """
    mode, name = picture.mode, printable(path)
    count = getattr(picture, "n_frames", 1)
    if count > 1 and picture.format != "MPO":  # whose first is the photograph (CIPA DC-007)
        raise DataError(f"{name}: holds {count} pictures: save the one that is meant")
    if mode in ("I", "F"):
        raise DataError(f"{name}: its pixels (mode {mode}) have no white level: save it as PNG")
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and not mode.startswith("I;16"):
        raise DataError(f"{name}: its colours are {mode}: save it as RGB or grey")
    depth = 8
    if picture.format == "PNG":
        depth = max(8, _png_depth(picture))
    elif picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        depth = max(8, *tags.get(BITS, (8,)))
        if depth > 8 and tags.get(PHOTOMETRIC) != BLACK_IS_ZERO:
            raise DataError(f"{name}: a TIFF of {depth} bits that is not grey from black to white: "
                            "save it as PNG")  # fmt: skip
    elif picture.format == "PPM":
        arguments = picture.tile[0].args if picture.tile else ()
        if isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255:
            raise DataError(f"{name}: its pixels go up to {arguments[-1]}: save it as PNG")
    if (depth > 8) != mode.startswith("I;16") and picture.format != "PNG":
        raise DataError(f"{name}: {depth} bits a channel in mode {mode}: save it as PNG")
    return depth


def _png_depth(picture: ImageFile.ImageFile) -> int:
    file = picture.fp
    assert file is not None
    place = file.tell()
    file.seek(24)  # in IHDR, behind the signature, two words of the chunk, width and height
    depth = file.read(1)[0]
    file.seek(place)
    return depth


def _check_opaque(picture: ImageFile.ImageFile, path: Path) -> None:
    picture.load()
    if not picture.has_transparency_data:
        return
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    if lowest < 255:  # type: ignore[operator]
        raise DataError(_transparent(path))


def _transparent(path: Path) -> str:
    return (
        f"{printable(path)}: some of its pixels are transparent, so their colour depends on what "
        "lies behind: save it without transparency"
    )


def _deep(picture: ImageFile.ImageFile, path: Path, depth: int, channels: int) -> Tensor:
    """Pixels of more than 8 bits a channel, (channels, H, W), by the depth in the header."""
    if picture.format == "PNG":
        picture.load()  # says what is broken, better than the decoder below
        # Pillow keeps the high byte of colours only.
        stored = decode_png(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8))
        values = stored.to(torch.int32)
        if len(values) in (2, 4):
            if int(values[-1].min()) < 2**depth - 1:
                raise DataError(_transparent(path))
            values = values[:-1]
        elif "transparency" in picture.info:
            raise DataError(_transparent(path))
    else:
        values = torch.from_numpy(np.array(picture, dtype=np.int32))[None]
    image = values.to(torch.float32) / (2**depth - 1)
    if len(image) == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1).contiguous()
    return (torch.tensor(LUMA).view(3, 1, 1) * image).sum(dim=0, keepdim=True).clamp(max=1.0)


def _turned(image: Tensor, orientation: int) -> Tensor:
    """An image (C, H, W) as its EXIF orientation wants it seen. Source: Exif 2.32, tag 274."""
    if orientation in (5, 7):
        image = image.transpose(1, 2)
    if orientation in (3, 4, 7):
        image = image.flip(1)
    if orientation in (2, 3, 7):
        image = image.flip(2)
    if orientation in (6, 8):
        image = torch.rot90(image, 1 if orientation == 8 else -1, (1, 2))
    return image.contiguous()
