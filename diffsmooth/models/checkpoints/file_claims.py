"""What a checkpoint file is, and what it claims of its sizes, before any of it is unpickled.

Nothing here allocates what a header asks for: a file of a few bytes may claim a petabyte.
"""

import re
import struct
import zipfile
import zlib
from codecs import getincrementaldecoder
from pathlib import Path
from typing import Literal, get_args

from diffsmooth.models.checkpoints.pickles import (
    LargePickle,
    begins_as_pickle,
    scan_bytes,
    scan_file,
)
from diffsmooth.models.words import SetName
from diffsmooth.shown_text import quoted, word
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import counted
from diffsmooth.stats.registry import is_code

Form = Literal["zip", "legacy", "safetensors", "export"]
"""torch.save's, torch.save's before 1.6 (or any pickle), safetensors, or torch.export's."""

# Of a pickle that holds weights: keys, shapes, what stands beside them, and so much each tensor.
PICKLE_BYTES = 4 * 2**20
PICKLE_BYTES_A_TENSOR = 2048
HEADER_BYTES = 16 * 2**20  # of safetensors
MOST_MEMBERS = 10**6
COMPRESSION = 20  # more than weights ever give
EXPORTED = {"archive_format", "archive_version"}  # members of such a program
EXPORT = "save its weights as a PyTorch state dict or as safetensors"

# How files begin that are taken for checkpoints, and what to do with them.
FOREIGN = (
    (rb"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras writes: {EXPORT}"),
    (rb"\x93NUMPY", f"a NumPy array: {EXPORT}"),
    (rb"GGUF", f"a GGUF file: {EXPORT}"),
    (rb".{4}TFL3", f"a TensorFlow Lite model: {EXPORT}"),
    (rb"\x08[\x01-\x20]\x12.[\x20-\x7e]", f"an ONNX model: {EXPORT}"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "compressed: unpack it first"),
    (rb".{257}ustar", "a tar archive: unpack it, and name the checkpoint in it"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file: fetch it by git lfs pull"),
    (rb"(?i)\s*<(!doctype|!--|html|head|body|\?xml)", "a web page: the download went wrong"),
    (rb"\s*[\{\[]", "a JSON text: name the file that holds the weights"),
)
FOREIGN_ENDINGS = {
    ".onnx": "an ONNX model",
    ".pb": "a TensorFlow model",
    ".tflite": "a TensorFlow Lite model",
    ".index": "part of a TensorFlow checkpoint",
    ".msgpack": "a Flax checkpoint",
}


def first_bytes(path: Path) -> bytes:
    """How a checkpoint file begins: up to 512 bytes.

    Raises:
        UserError: missing, a folder, or it cannot be read.
    """
    try:
        if not path.is_file():
            if path.is_dir():
                raise UserError(
                    f"{path}: a folder without a network that is known (a config.json of "
                    "diffusers, transformers or timm): name the file in it"
                )
            if path.exists():
                raise UserError(f"{path}: no regular file")
            raise UserError(f"{path}: no such checkpoint (docs/checkpoints.md: where each lies)")
        with open(path, "rb") as file:
            return file.read(512)
    except OSError as error:
        raise UserError(f"{word(str(path))}: cannot be read ({error.strerror})") from error


def first_line(start: bytes) -> str:
    """The first line of a file that begins as a text does, in UTF-8; "" of any other."""
    try:
        text = getincrementaldecoder("utf-8-sig")().decode(start)  # its last letter may be cut
    except UnicodeDecodeError:
        return ""
    is_text = all(letter.isprintable() or letter.isspace() for letter in text)
    return text.strip().partition("\n")[0].rstrip() if is_text else ""


def check_source(source: Path | str, weights: str | None = None) -> None:
    """Raises UserError unless a network is there: a file, a folder of one, or a name of code.

    What they hold is not looked at, and no code is imported.

    Args:
        source: of the network.
        weights: raw or ema, of a file; a file, of code; None where the user says nothing.
    """
    path, is_set = Path(source), weights in get_args(SetName)
    if is_code(str(source)):
        if is_set:
            raise UserError(f"{source}: weights must be a file, got {weights!r}")
        return
    if weights is not None and not is_set:
        raise UserError(
            f"weights must be raw or ema, got {weights!r}: a file of weights goes with "
            "package.module:factory"
        )
    if not any((path / name).is_file() for name in ("config.json", "model_index.json")):
        first_bytes(path)


def check_file(path: Path, unsafe: bool = False) -> Form:
    """How a checkpoint file is to be read.

    Args:
        path: the file.
        unsafe: whether a program is wanted, too, rather than weights alone.

    Raises:
        UserError: missing, of another program, damaged, or it claims more than weights need.
    """
    start = first_bytes(path)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return _check_zip(path, unsafe)
    if start[8:9] == b"{" and 0 in start[:8]:  # a text has none
        _check_safetensors(path, int.from_bytes(start[:8], "little"))
        return "safetensors"
    for beginning, what in FOREIGN:
        if re.match(beginning, start, re.DOTALL):
            raise _unreadable(path, what)
    if path.suffix in FOREIGN_ENDINGS or re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        what = FOREIGN_ENDINGS.get(path.suffix, "part of a TensorFlow checkpoint")
        raise _unreadable(path, f"{what}: {EXPORT}")
    if path.suffix == ".py":
        why = f"Python source: name a network in it as {path.stem}:NAME, in the folder of"
        raise _unreadable(path, f"{why} {path.name} or with that on PYTHONPATH")
    try:
        scan_file(path, PICKLE_BYTES, PICKLE_BYTES_A_TENSOR)
    except LargePickle as error:
        raise _unreadable(path, str(error)) from error
    line = first_line(start)
    if line and not begins_as_pickle(path):
        if path.suffix in (".yaml", ".yml"):
            raise _unreadable(path, "a YAML text: a command's options go with --config")
        raise _unreadable(path, f"a text, {quoted(line)}: name the file that holds the weights")
    return "legacy"


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a readable checkpoint ({why})")


def _check_safetensors(path: Path, header: int) -> None:
    size = path.stat().st_size
    if header > size - 8:
        raise _unreadable(
            path, f"its header claims {header:,} bytes, the file has {size:,}: it is cut short"
        )
    if header > HEADER_BYTES:
        raise _unreadable(path, f"its header has {header:,} bytes, no weights need that")


def _check_zip(path: Path, unsafe: bool) -> Form:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if unsafe and _is_export(members):
                return "export"
            _check_members(path, members)
            damaged = archive.testzip()  # torch's reader does not look at the CRCs
            if damaged is None:
                scan_bytes(archive.read(_pickles_of(members)[0]))
    except UserError:
        raise
    except LargePickle as error:
        raise _unreadable(path, str(error)) from error
    except (  # what zipfile raises for broken archives
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError,
        RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise _unreadable(path, f"cut short or damaged: {error}") from error
    if damaged is not None:
        raise _unreadable(path, f"damaged: the checksum of {quoted(damaged)} in it is wrong")
    return "zip"


def _is_export(members: list[zipfile.ZipInfo]) -> bool:
    names = {member.filename for member in members}
    return bool(EXPORTED & {part for name in names for part in (name, name.partition("/")[2])})


def _pickles_of(members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    return [member for member in members if re.fullmatch(r"[^/]*/data\.pkl", member.filename)]


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = {member.filename for member in members}
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner) or "constants.pkl" in inner:
        how = "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        raise _unreadable(path, f"a TorchScript program: {how} writes its weights")
    if _is_export(members):
        raise _unreadable(
            path, f"a program of torch.export: --unsafe_load takes it as it is; or {EXPORT}"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise _unreadable(path, f"NumPy arrays: {EXPORT}")
    if "model.weights.h5" in names:
        raise _unreadable(path, f"a Keras model: {EXPORT}")
    pickles = _pickles_of(members)
    if not pickles:
        raise _unreadable(path, "a zip archive, and not of torch.save: unpack it first")
    if len(names) < len(members) or len(pickles) > 1:
        raise _unreadable(path, "two of its members have the same name")
    if len(members) > MOST_MEMBERS:
        raise _unreadable(path, f"of {len(members):,} members, no weights need that")
    top = pickles[0].filename.partition("/")[0]
    tensors = sum(name.startswith(f"{top}/data/") for name in names)
    most = PICKLE_BYTES + PICKLE_BYTES_A_TENSOR * tensors
    if pickles[0].file_size > most:
        raise _unreadable(
            path,
            f"its data.pkl has {pickles[0].file_size:,} bytes: more than "
            f"{counted(tensors, 'tensor')} can need",
        )
    _check_records(path, members)


def _check_records(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = path.stat().st_size
    for member in members:
        most = max(PICKLE_BYTES, COMPRESSION * member.compress_size)
        if member.compress_size > size or member.file_size > most:
            raise _unreadable(
                path,
                f"its {quoted(member.filename)} claims {member.file_size:,} bytes, the file has "
                f"{size:,}",
            )
    if sum(member.compress_size for member in members) > size:
        raise _unreadable(path, "its members overlap")
