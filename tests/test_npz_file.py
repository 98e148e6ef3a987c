"""An .npz file is believed only as far as it bears out what it claims."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from diffsmooth import npz_file
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.published import _read_idx
from diffsmooth.npz_file import NpzError, available_memory, read_npz
from diffsmooth.runs.gallery import read_gallery


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """What stands before the numbers of a .npy file."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return content.getvalue()


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def claim(path: Path, name: str, size: int) -> Path:
    """Writes into the zip's directory that a member has so many bytes."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    while content[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry = content.index(b"PK\x01\x02", entry + 1)
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


PETABYTE = (10**6, 17_000, 22_000, 3)
LABELS = npy(np.zeros(1, int))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_claims_a_petabyte_is_refused(tmp_path: Path, method: int) -> None:
    images = header(PETABYTE) + bytes(100)
    path = write(tmp_path / "x.npz", {"images": images, "labels": LABELS}, method)
    with pytest.raises(DataError, match=r"x\.npz: array 'images' claims 1,122,000,000,000,000 by"):
        load_images(str(path))
    for split in ("test.npz",):
        path.rename(tmp_path / split)
        with pytest.raises(DataError, match="array 'images' claims 1,122"):
            load_images("cifar10", tmp_path)


def test_a_zip_directory_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    images = header((4 * 10**9,)) + bytes(4000)
    path = write(tmp_path / "x.npz", {"images": images, "labels": LABELS})
    claim(path, "images.npy", 4 * 10**9 + len(header((4 * 10**9,))))
    with pytest.raises(DataError, match="'images' claims 4,000,000,128 bytes, more than the file"):
        load_images(str(path))


def test_what_is_dense_but_larger_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = npy(np.zeros((200, 100, 100), np.uint8))
    path = write(tmp_path / "x.npz", {"images": images, "labels": npy(np.zeros(200, int))})
    assert path.stat().st_size < 5000
    assert len(load_images(str(path))) == 200
    monkeypatch.setattr(npz_file, "available_memory", lambda: 1_999_999)
    with pytest.raises(DataError, match="takes 2,000,000 bytes, this machine has 1,999,999 free"):
        load_images(str(path))


def test_the_memory_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2**20 < available_memory() < 2**50
    monkeypatch.setattr(npz_file, "CGROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("12345\n")
    assert available_memory() == 12345
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 12345


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((3, -1)) + bytes(3), "is of shape"),
        (header((2,), "|O") + bytes(16), "Python objects"),
        (b"\x93NUMPY\x03\x00" + bytes(60), "of a .npy version"),
        (b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64, "not a readable"),
        (b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': '|u1', 'shape': ('a',)}".ljust(64), "readable"),
        (b"no array", "not a readable"),
        (b"", "not a readable"),
    ],
)
def test_broken_arrays_are_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = write(tmp_path / "x.npz", {"images": content, "labels": LABELS})
    with pytest.raises(NpzError, match=said) as caught:
        read_npz(path, ("images", "labels"))
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    values = np.arange(100, dtype=np.uint8)
    path = write(tmp_path / "x.npz", {"a": npy(values)}, zipfile.ZIP_STORED)
    np.testing.assert_array_equal(read_npz(path, ("a",))[0], values)
    content = bytearray(path.read_bytes())
    content[content.index(values.tobytes()) + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(NpzError, match="Bad CRC-32"):
        read_npz(path, ("a",))


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("labels.npy", npy(np.zeros(1)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("labels.npy", npy(np.ones(1)))
    with pytest.raises(NpzError, match="holds 2 arrays 'labels'"):
        read_npz(path, ("labels",))


def test_a_gallery_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    fields = ("original", "noisy", "purified", "copies")
    members = {name: header((10**12, 1, 1, 1)) + bytes(10) for name in fields}
    path = write(tmp_path / "o.images.npz", {"index": npy(np.zeros(1, int)), **members})
    with pytest.raises(ValueError, match=r"o\.images\.npz: not the images of a run \(array 'origi"):
        read_gallery(path)


def test_an_idx_file_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    shape = struct.pack(">IIII", 0x00000803, 2**31, 2**15, 2**15)
    for name, content in (("x", shape), ("x.gz", gzipped(shape + bytes(100)))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="claims 2,305,843,009,213,693,952 bytes"):
            _read_idx(tmp_path / name)
    zeros = struct.pack(">II", 0x00000801, 5) + bytes(10**7)  # more than it claims
    (tmp_path / "x.gz").write_bytes(gzipped(zeros))
    with pytest.raises(DataError, match="not a readable idx file"):
        _read_idx(tmp_path / "x.gz")


def gzipped(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((2, 3, 32, 32), np.uint8)}, "the channels last, got"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8)}, "1 or 3 channels"),
        ({"images": np.zeros((2, 8, 8), np.float32)}, "images must be uint8"),
        ({"images": np.zeros((2, 8, 8), np.uint16)}, "images must be uint8"),
        ({"images": np.zeros((2, 8, 8), np.int8)}, "images must be uint8"),
        ({"images": np.zeros((2, 64), np.uint8)}, "images must be"),
        ({"labels": np.array([-1, 0])}, "label -1 of image 0 is beyond"),
        ({"labels": np.array([0.0, 1.0])}, "labels must be integers"),
        ({"labels": np.array([True, False])}, "labels must be integers"),
        ({"labels": np.array([[0], [1]])}, "labels must be integers"),
        ({"labels": np.array([0, 10**12])}, "label 1000000000000 of image 1 is no class"),
        ({"labels": np.array([0, 2**64 - 1], np.uint64)}, "of image 1 is no class"),
        ({"labels": np.array([0, 2]), "class_names": np.array(["a", "b"])}, "label 2 of image 1"),
        ({"class_names": np.array([1, 2])}, "class_names must be strings"),
        ({"class_names": np.array([["a", "b"]])}, "class_names must be strings"),
    ],
)
def test_arrays_of_other_kinds_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    sound = {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 1])}
    np.savez(tmp_path / "x.npz", **(sound | arrays))
    with pytest.raises(DataError, match=rf"x\.npz: .*{said}"):
        load_images(str(tmp_path / "x.npz"))


def test_a_known_dataset_is_not_padded_or_named_anew(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    np.savez(tmp_path / "test.npz", images=np.zeros((2, 28, 28, 3), np.uint8), labels=labels)
    with pytest.raises(DataError, match=r"do not fit cifar10's 3 x 32 x 32"):
        load_images("cifar10", tmp_path)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    names = np.array(sorted(["cat", "dog", "airplane", "ship", "truck", "bird", "frog", "deer"]))
    np.savez(tmp_path / "test.npz", images=images, labels=labels, class_names=names)
    with pytest.raises(DataError, match="its class_names are not those of cifar10 in their order"):
        load_images("cifar10", tmp_path)
