"""The names of a run's files and of its shards, and whether a file is there."""

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import check_names

JOURNAL, TABLES = ".jsonl", (".txt", ".tsv")
# What lies among the parts is ours by its name. Parts of journals begin with their identity's
# digest, then comes what makes them unique.
PART = re.compile(r"[0-9a-f]{16}-rank\d+-.*\.jsonl")
LOCK = re.compile(r"lock(\.claim|\.\d+of\d+)?")


class OutputError(UserError):
    """The output cannot be written, or belongs to another run."""


def is_there(path: Path) -> bool:
    """Whether a file, or a link to one, is there.

    Raises:
        UserError: something else is: that is not taken for nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # no file has a name that is too long, for one
        if os.path.islink(path):
            raise UserError(f"{path}: is a link that leads nowhere") from error
        return False
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is a {_kind(mode)}, a file is wanted")
    return True


def _kind(mode: int) -> str:
    return "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "pipe"


class Shard(NamedTuple):
    """One of `total` equal parts of a run's images, by independent processes; from 1 on."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard of a text such as 3/16.

        Raises:
            ValueError: not such a text.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise ValueError(f"shard must be I/K with 1 <= I <= K, such as 1/16, got {text!r}")
        return shard

    def share_of(self, selection: list[int]) -> list[int]:
        """This shard's images."""
        return selection[self.number - 1 :: self.total]


class RunFiles:
    """The names of a run's files, of whatever kind is what lies there.

    Args:
        path: the table or the journal. A final .txt, .tsv or .jsonl is not part of the others'
            names.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem if path.suffix in (JOURNAL, *TABLES) else path.name
        self.stem = path.parent / self.name
        self.journal = self._beside(JOURNAL)
        self.manifest = self._beside(".manifest.json")
        self.figure = self._beside(".png")
        self.images = self._beside(".images.npz")
        self.flips = self._beside(".flips.tsv")  # of attacks, as is the next
        self.checks = self._beside(".checks.npz")
        self.parts = self._beside(".parts")

    def _beside(self, ending: str) -> Path:
        return self.stem.parent / f"{self.name}{ending}"

    @property
    def whole(self) -> tuple[Path, ...]:
        """What is of the run, whether it is read or not."""
        return self.journal, self.manifest, self.images, *self.tables

    @property
    def tables(self) -> tuple[Path, ...]:
        """Those that are there, by any name that OUT may have had."""
        may_be = (self.stem, *map(self._beside, TABLES))
        return tuple(filter(os.path.lexists, may_be))

    @classmethod
    def beside(cls, path: Path) -> "RunFiles":
        """The files of the run that a file is of: those beside it; a link's, where it leads to."""
        for files in (cls(path), cls(path.resolve())) if os.path.islink(path) else ():
            if any(os.path.lexists(p) for p in (files.journal, files.manifest) if p != path):
                return files
        return cls(path)


class OutputFiles(RunFiles):
    """The files of a run that is to write them.

    Args:
        table: OUT as the user named it.

    Raises:
        UserError: a name that is empty, no UTF-8, that no file system takes, or that is a
            journal's.
    """

    def __init__(self, table: Path | str) -> None:
        self.table = Path(table)
        if not self.table.name:
            raise UserError(f"outfile {str(table)!r} is not the name of a file")
        if self.table.suffix == JOURNAL:
            raise UserError(f"outfile {str(table)!r}: {JOURNAL} is the ending of journals")
        super().__init__(self.table)
        for path in (self.manifest, self.images):
            check_names(path)
        try:
            str(self.table.absolute()).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"outfile {str(self.table)!r} has bytes that are no UTF-8") from error

    @property
    def results(self) -> tuple[Path, ...]:
        """What a finished run leaves, but for its manifest."""
        return self.table, self.journal, self.figure, self.images, self.flips, self.checks

    def parts_of_journals(self, digest: str = "") -> list[Path]:
        """The parts of ours that lie in the folder of parts, of one identity or of any."""
        ours = [path for path in self.among_parts() if PART.fullmatch(path.name)]
        return [path for path in ours if path.name.startswith(digest) and path.is_file()]

    def among_parts(self) -> list[Path]:
        """What lies in the folder of parts under a name that we give there."""
        found = sorted(self.parts.iterdir()) if self.parts.is_dir() else []
        return [path for path in found if PART.fullmatch(path.name) or LOCK.fullmatch(path.name)]

    def refuse_others_kinds(self) -> None:
        """What is no file of its own, such as a link, is not ours to write, to lock or to remove.

        What would be found at the end is found before the first vote.

        Raises:
            OutputError: there is such a thing.
        """
        parts = self.parts
        if os.path.lexists(parts) and (parts.is_symlink() or not parts.is_dir()):
            raise OutputError(f"{parts}: is no folder of ours; choose another outfile")
        links = [path for path in parts.iterdir() if path.is_symlink()] if parts.is_dir() else []
        for path in (*self.results, self.manifest, *self.among_parts(), *sorted(links)):
            mode = path.lstat().st_mode if os.path.lexists(path) else stat.S_IFREG
            if not stat.S_ISREG(mode):
                raise OutputError(f"{path}: is a {_kind(mode)}, a file of our own is wanted there")
