"""The pixels that are read are the pixels of the file, or the file is refused by name."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import GREY, GREY_ALPHA, RGB, RGB_ALPHA, chunk, coloured, exif, png
from PIL import Image, ImageOps

from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.picture import UnreadableImage, read_header, read_picture

DEEP = np.array([[0, 1, 257], [4095, 32768, 65535]], np.uint16)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def stack(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_grey_png_of_16_bits_is_scaled_by_its_depth(
    tmp_path: Path, channels: int, alpha: bool
) -> None:
    full = np.full_like(DEEP, 65535)
    pixels, colour = (stack(DEEP, full), GREY_ALPHA) if alpha else (stack(DEEP), GREY)
    significant = chunk(b"sBIT", b"\x0c" * pixels.shape[-1])  # changes no value (PNG, 11.3.2.7)
    path = write(tmp_path / "x.png", png(pixels, colour, before=(significant,)))
    image = read_picture(path, channels, None)
    assert image.shape == (channels, 2, 3)
    for plane in image:
        np.testing.assert_array_equal(plane.numpy(), DEEP.astype(np.float32) / np.float32(65535))


def test_a_coloured_png_of_16_bits_keeps_its_low_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65536, (4, 5, 3)).astype(np.uint16)
    opaque = np.concatenate([pixels, np.full((4, 5, 1), 65535, np.uint16)], axis=-1)
    for content in (png(pixels, RGB), png(opaque, RGB_ALPHA)):
        image = read_picture(write(tmp_path / "x.png", content), 3, None)
        np.testing.assert_allclose(image.numpy(), pixels.transpose(2, 0, 1) / 65535, atol=1e-7)
        grey = read_picture(tmp_path / "x.png", 1, None)[0]
        luma = pixels @ np.array([0.299, 0.587, 0.114]) / 65535
        np.testing.assert_allclose(grey.numpy(), luma, atol=1e-6)
    opaque[2, 3, 3] = 65534
    with pytest.raises(DataError, match=r"x\.png: some of its pixels are transparent"):
        read_picture(write(tmp_path / "x.png", png(opaque, RGB_ALPHA)), 3, None)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_grey_tiff_is_scaled_by_its_bits(tmp_path: Path, bits: int) -> None:
    values = np.array([[0, 1, 2], [100, 2**bits // 2, 2**bits - 1]], np.uint16)
    if bits == 16:
        Image.fromarray(values).save(tmp_path / "x.tif")
    else:  # three bytes hold two pixels; a row begins with a byte of its own
        rows = b"".join(
            bytes([row[0] >> 4, (row[0] & 15) << 4 | row[1] >> 8, row[1] & 255,
                   row[2] >> 4, (row[2] & 15) << 4])
            for row in values.astype(int).tolist()
        )  # fmt: skip
        write(tmp_path / "x.tif", tiff(rows, 3, 2, 12))
    image = read_picture(tmp_path / "x.tif", 1, None)
    np.testing.assert_allclose(image[0].numpy(), values / (2**bits - 1), atol=1e-7)


def tiff(pixels: bytes, width: int, height: int, bits: int, photometric: int = 1) -> bytes:
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 122),
            (277, 1), (278, height), (279, len(pixels))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_eight_bits_are_what_pillow_says(tmp_path: Path, mode: str, ending: str) -> None:
    picture = coloured().convert(mode)
    path = tmp_path / f"x.{ending}"
    picture.save(path)
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read_picture(path, 3, None).numpy(), expected, atol=1e-7)
    grey = np.asarray(picture.convert("L"))[None] / 255
    np.testing.assert_allclose(read_picture(path, 1, None).numpy(), grey, atol=1e-7)


def test_grey_of_a_grey_picture_is_exact(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(stack(values, values, values)).save(tmp_path / "x.png")
    image = read_picture(tmp_path / "x.png", 1, None)
    assert torch.equal(image[0], torch.from_numpy(values).float() / 255)


def as_mode(mode: str) -> Callable[[], bytes]:
    def make() -> bytes:
        content = io.BytesIO()
        values = np.arange(64, dtype={"I": np.int32, "F": np.float32}[mode]).reshape(8, 8)
        Image.fromarray(values).save(content, "TIFF")
        return content.getvalue()

    return make


def converted(mode: str, kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        content = io.BytesIO()
        coloured().convert(mode).save(content, kind)
        return content.getvalue()

    return make


def several(kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        content = io.BytesIO()
        coloured().save(content, kind, save_all=True, append_images=[coloured(seed=1)])
        return content.getvalue()

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (as_mode("I"), "mode I. have no white level"),
        (as_mode("F"), "mode F. have no white level"),
        (converted("CMYK", "JPEG"), "its colours are CMYK"),
        (converted("CMYK", "TIFF"), "its colours are CMYK"),
        (converted("LAB", "TIFF"), "its colours are LAB"),
        (several("PNG"), "holds 2 pictures"),
        (several("TIFF"), "holds 2 pictures"),
        (several("WEBP"), "holds 2 pictures"),
        (lambda: b"P5 2 1 65535\n" + bytes(4), "have no white level"),
        (lambda: b"P6 1 1 65535\n" + bytes(6), "its pixels go up to 65535"),
        (lambda: tiff(bytes(4), 2, 1, 16, photometric=0), "not grey from black to white"),
    ],
)  # fmt: skip
def test_pixels_without_one_meaning_are_refused_by_name(
    tmp_path: Path, make: Callable[[], bytes], said: str
) -> None:
    path = write(tmp_path / "x.png", make())
    for read in (read_header, lambda path: read_picture(path, 3, None)):
        with pytest.raises(DataError, match=rf"x\.png: .*{said}") as caught:
            read(path)
        assert not isinstance(caught.value, UnreadableImage)


def transparent(alpha: int) -> dict[str, Image.Image]:
    """By mode: pictures with one pixel of this alpha."""
    rgba = coloured().convert("RGBA")
    rgba.putpixel((3, 2), (1, 2, 3, alpha))
    palette = coloured().convert("P")
    palette.info["transparency"] = bytes([255] * palette.getpixel((0, 0)) + [alpha])  # type: ignore[operator, list-item]
    return {"RGBA": rgba, "LA": rgba.convert("LA"), "P": palette}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused_and_opaque_ones_are_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    transparent(254)[mode].save(path)
    with pytest.raises(DataError, match=r"x\.png: some of its pixels are transparent"):
        read_picture(path, 3, None)
    opaque = transparent(255)[mode]
    opaque.save(path)
    expected = np.asarray(opaque.convert("RGBA").convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read_picture(path, 3, None).numpy(), expected, atol=1e-7)


def test_a_colour_that_means_transparent_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 1] = 7
    for colour, refused in ((7, True), (8, False)):
        key = chunk(b"tRNS", struct.pack(">HHH", colour, colour, colour))
        path = write(tmp_path / "x.png", png(pixels, RGB, before=(key,)))
        if refused:
            with pytest.raises(DataError, match="transparent"):
                read_picture(path, 3, None)
        else:
            assert read_picture(path, 3, None)[0, 0, 1] == pytest.approx(7 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_an_orientation_is_applied_as_viewers_do_or_ignored(
    tmp_path: Path, orientation: int, deep: bool
) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    said = chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    stored = pixels.astype(np.uint16) * 257 if deep else pixels
    path = write(tmp_path / "x.png", png(stored, RGB, behind=(said,)))  # also behind the pixels
    with Image.open(write(tmp_path / "y.png", png(pixels, RGB, before=(said,)))) as picture:
        turned = np.asarray(ImageOps.exif_transpose(picture)).transpose(2, 0, 1) / 255
    header = read_header(path)
    assert header.orientation == orientation
    assert header.size("apply") == turned.shape[1:]
    assert header.size("ignore") == (4, 6)
    np.testing.assert_allclose(read_picture(path, 3, "apply").numpy(), turned, atol=1e-6)
    ignored = read_picture(path, 3, "ignore").numpy()
    np.testing.assert_allclose(ignored, pixels.transpose(2, 0, 1) / 255, atol=1e-6)
    if orientation > 1:
        with pytest.raises(DataError, match=r"x\.png: carries an orientation"):
            read_picture(path, 3, None)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_other_formats_carry_orientations_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    coloured(4, 6).save(path, kind, exif=exif(6))
    assert read_header(path).orientation == 6
    assert read_header(path).size("apply") == (6, 4)
    assert read_picture(path, 3, "apply").shape == (3, 6, 4)
    if kind == "TIFF":  # its own tag, which decoders apply
        with pytest.raises(DataError, match="cannot be ignored"):
            read_picture(path, 3, "ignore")
    else:
        assert read_picture(path, 3, "ignore").shape == (3, 4, 6)


def test_the_first_picture_of_a_phones_jpeg_is_the_photograph(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    coloured().save(path, "MPO", save_all=True, append_images=[coloured(seed=1)])
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read_picture(path, 3, None).numpy(), expected, atol=1e-7)


def test_broken_files_are_told_apart_from_those_without_a_meaning(tmp_path: Path) -> None:
    whole = png(np.zeros((64, 64, 3), np.uint8), RGB)
    bomb = bytearray(whole)
    bomb[16:33] = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0))[8:]
    content = io.BytesIO()
    coloured(64, 64).save(content, "JPEG")
    jpeg = content.getvalue()
    for broken in (b"", b"GIF89a", whole[:60], jpeg[: len(jpeg) // 2], bytes(bomb)):
        with pytest.raises(UnreadableImage, match=r"x\.png: not a readable image"):
            read_picture(write(tmp_path / "x.png", broken), 3, None)
    with pytest.raises(UnreadableImage, match=r"y\.png: not a readable image \(No such file"):
        read_header(tmp_path / "y.png")
