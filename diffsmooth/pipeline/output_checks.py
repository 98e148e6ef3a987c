"""Whether files are there or can be written, before work is spent on them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import check_names, check_target


def check_folder(option: str, folder: Path) -> None:
    """Raises UserError unless `folder` is there, or can be made, and can be written to."""
    check_names(folder)
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UserError(f"{option} {folder}: {there} is not a folder that can be written to")
        # Only trying tells: names may be too long, and some file systems are like /proc.
        for path in reversed(missing):
            path.mkdir()
            made.insert(0, path)
    except FileExistsError:
        pass  # another process has just made it
    except (OSError, ValueError) as error:  # ValueError: no name has such a byte
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option} {folder}: cannot be made ({reason})") from error
    finally:
        for path in made:
            with suppress(OSError):  # or has put a file into it
                path.rmdir()


def check_file(path: Path) -> None:
    """Raises UserError unless a file can be written at `path`, in a folder that may be missing."""
    check_names(path)
    check_folder("the folder", path.absolute().parent)
    check_target(path)


def check_place(path: Path) -> None:
    """As `check_file`, but by a look alone: for names that many processes write to at once."""
    check_names(path)
    there = next((one for one in path.absolute().parents if exists(str(one))), path)
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{path}: cannot be written ({there} is no folder that can be written to)")


def check_no_input(outputs: Iterable[Path], inputs: Iterable[str | Path | None]) -> None:
    """Raises UserError where what is to be written is what is read, or lies in a folder of it.

    Args:
        outputs: files, which need not be there.
        inputs: files or folders; others and None are passed over.
    """
    known = [Path(os.path.expanduser(path)) for path in inputs if path]
    for output in outputs:
        for path in known:
            if path.is_file() and output.exists() and output.samefile(path):
                raise UserError(f"{output}: is read by this command, and would be overwritten")
            if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
                raise UserError(f"{output}: lies in {path}, which this command reads")


def data_files(dataset: str, root: str) -> list[Path]:
    """What a dataset is read from: its folder or its file, or the packed files of a known one."""
    own = Path(os.path.expanduser(dataset))
    folders = (own, Path(os.path.expanduser(root)))
    packed = [folder / f"{split}.npz" for folder in folders for split in ("train", "test")]
    is_packed = any(path.is_file() for path in packed[:2])  # other files may lie beside them
    return packed if is_packed else [own, *packed]


def check_ending(path: Path, endings: Iterable[str]) -> None:
    """Raises UserError unless a file's name has one of the endings."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: its name must end in {' or '.join(endings)}")


def check_trained(path: str) -> None:
    """Raises UserError for a checkpoint that is not there, unless others lie beside it.

    Where they do, `read_trained` names the newest whole one, which takes longer.
    """
    if not exists(path) and not any(Path(path).parent.glob("*.ckpt")):
        raise UserError(f"{path}: no such checkpoint")


def exists(path: str) -> bool:
    """Whether something is there; a name that no file can have is left to who opens it."""
    try:
        return Path(os.path.expanduser(path)).exists()
    except (OSError, ValueError):
        return True  # a name that says what is wrong with it when it is opened
