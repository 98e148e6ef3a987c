"""The content of a checkpoint file: the only torch.load of the project."""

import argparse
import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import safetensors.torch
import torch
from torch import nn

from diffsmooth.models.checkpoints.file_claims import Form, check_file
from diffsmooth.models.checkpoints.pickles import ORDINARY, globals_of
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import import_from_here

# What old checkpoints hold beside tensors, and what cannot run code.
_numpy_scalar: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
HARMLESS: list[Any] = [
    argparse.Namespace,
    _numpy_scalar,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    # All but objects and void: those can hold anything.
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"},
]
READ_FOR_NAMES = 16 * 2**20  # bytes of an old file, for what it would call


def read_file(path: Path | str, unsafe: bool = False) -> Any:
    """The content of a checkpoint file, on the CPU; of what kind it is, the content says.

    Args:
        unsafe: run the code that the file may hold; for files of your own only.

    Raises:
        UserError: missing, empty, damaged or of another program; it claims more than weights need;
            or it would run code, which the message names.
    """
    path = Path(path)
    form = check_file(path, unsafe)
    if unsafe:
        warnings.warn(f"{path}: loading runs whatever code the file holds", stacklevel=2)
        import_from_here()  # the code that it names may be its user's
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            warnings.filterwarnings("ignore", ".*deprecated")  # old kinds of storage
            warnings.filterwarnings("ignore", ".*buffer is not writable")  # torch 2.11's export
            if form == "safetensors":
                return safetensors.torch.load_file(path)
            if form == "export":
                return ExportedModule(torch.export.load(path).module())
            if form == "legacy":
                return torch.load(path, map_location="cpu", weights_only=not unsafe)
            with zipfile.ZipFile(path) as archive:
                records = archive.infolist()
            # Not compressed, the ranks of a host can share one copy of the file in memory.
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            content = torch.load(path, map_location="cpu", weights_only=not unsafe, mmap=stored)
            _check_storages(content, {record.file_size for record in records})
            return content
    except Exception as error:  # unpickling a broken file can raise anything
        if not unsafe:
            wanted = _forbidden_global(path, form, error)
            if wanted:
                raise UserError(
                    f"{path}: refused, it would run {wanted}; "
                    "--unsafe_load runs it, if you trust the file's author"
                ) from error
            if "Unsupported operand" in str(error):
                raise UserError(
                    f"{path}: not a readable checkpoint (a pickle protocol that cannot be read "
                    "safely: save it with torch's default one, or --unsafe_load)"
                ) from error
        absent = _absent_code(error) if unsafe else ""
        if absent:
            raise UserError(f"{path}: {absent}") from error
        cause = f": {error}" if unsafe else ""
        raise UserError(
            f"{path}: not a readable checkpoint ({type(error).__name__}{cause})"
        ) from error


def _absent_code(error: Exception) -> str:
    """What to do where a whole module's code is not found; "" of other errors."""
    instead = "or save its state_dict(), and name the code as MODULE:NAME, with the file as weights"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"needs the module {error.name!r}, which is not found: run this in its folder, or with "
            f"that on PYTHONPATH; {instead}"
        )
    named = re.match(r"Can't get attribute '(\w+)' on <module '([\w.]+\.)?__main__'", str(error))
    if not named:
        return ""
    return f"needs {named.group(1)} of the script that saved it, which no other finds: {instead}"


class ExportedModule(nn.Module):
    """A program of torch.export, which has one mode only."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> Self:
        """Stays as it was exported."""
        return self

    def forward(self, x: torch.Tensor) -> Any:
        """As exported."""
        return self.program(x)


def _check_storages(content: Any, sizes: set[int]) -> None:
    """Raises ValueError for a tensor on more memory than its record has: torch does not look."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            has_memory = value.layout == torch.strided and value.device.type == "cpu"
            if has_memory and value.untyped_storage().nbytes() not in sizes:
                raise ValueError("a tensor is larger than its record")
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _forbidden_global(path: Path, form: Form, error: Exception) -> str | None:
    """What a refused pickle would call, in torch's words or else by reading it without running."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return named.group(1)
    try:
        if form == "zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                streams: list[IO[bytes]] = [io.BytesIO(archive.read(name)) for name in names]
        else:
            with open(path, "rb") as file:  # its pickles come first
                streams = [io.BytesIO(file.read(READ_FOR_NAMES))]
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return None
    found = [name for stream in streams for name in globals_of(stream)]
    return next((name for name in found if not ORDINARY.fullmatch(name)), None)
