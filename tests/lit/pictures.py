"""Image files made by hand, chunk by chunk where Pillow cannot write them."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6  # PNG's colour types


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    pixels: np.ndarray, colour: int, before: tuple[bytes, ...] = (), behind: tuple[bytes, ...] = ()
) -> bytes:
    """A PNG of pixels (H, W, C), 8 or 16 bits deep by their type, with chunks around them."""
    height, width, _ = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = (*before, chunk(b"IDAT", zlib.compress(rows)), *behind)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *middle, chunk(b"IEND", b"")])


def exif(orientation: int) -> Image.Exif:
    said = Image.Exif()
    said[0x0112] = orientation
    return said


def coloured(height: int = 8, width: int = 8, seed: int = 0) -> Image.Image:
    """A picture of random colours."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def write_classes(
    root: Path,
    classes: tuple[str, ...] = ("cat", "dog"),
    each: int = 2,
    size: tuple[int, int] = (8, 8),
) -> Path:
    """A folder with `each` PNGs (height, width) in each class folder, all different."""
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            coloured(*size, seed=100 * k + i).save(root / name / f"{i}.png")
    return root
