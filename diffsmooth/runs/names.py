"""The names of a run's files."""

import re
from pathlib import Path

from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import check_names

# Parts of journals are ours by their names: the identity's digest, then what makes them unique.
PART = re.compile(r"[0-9a-f]{16}-rank\d+-.*\.jsonl")


def is_file(path: Path) -> bool:
    """Whether a file is there; no file has a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


class OutputFiles:
    """The names of the files beside OUT.

    Args:
        table: OUT as the user named it. A final .txt or .tsv is not part of the others' names.

    Raises:
        UserError: a name that is empty, no UTF-8, or that no file system takes.
    """

    def __init__(self, table: Path | str) -> None:
        self.table = Path(table)
        if not self.table.name:
            raise UserError(f"outfile {str(table)!r} is not the name of a file")
        stem = self.table.with_suffix("") if self.table.suffix in (".txt", ".tsv") else self.table
        self.stem = stem
        self.name = stem.name
        self.journal = stem.with_name(f"{stem.name}.jsonl")
        self.manifest = stem.with_name(f"{stem.name}.manifest.json")
        self.figure = stem.with_name(f"{stem.name}.png")
        self.images = stem.with_name(f"{stem.name}.images.npz")
        self.parts = stem.with_name(f"{stem.name}.parts")
        self._check()

    def _check(self) -> None:
        for path in (self.manifest, self.images):
            check_names(path)
        try:
            str(self.table.absolute()).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"outfile {str(self.table)!r} has bytes that are no UTF-8") from error

    @property
    def results(self) -> tuple[Path, ...]:
        """What a finished run leaves, but for its manifest."""
        return self.table, self.journal, self.figure, self.images

    def parts_of_journals(self, digest: str = "") -> list[Path]:
        """The parts of ours that lie in the folder of parts, of one identity or of any."""
        found = sorted(self.parts.glob("*.jsonl")) if self.parts.is_dir() else []
        ours = [path for path in found if PART.fullmatch(path.name) and is_file(path)]
        return [path for path in ours if path.name.startswith(digest)]
