"""The names of a run's files."""

import os
import re
from pathlib import Path

from diffsmooth.stats.errors import UserError

LONGEST_NAME = 255  # bytes, of the file systems in use
# Parts of journals are ours by their names: the identity's digest, then what makes them unique.
PART = re.compile(r"[0-9a-f]{16}-rank\d+-.*\.jsonl")


class OutputFiles:
    """The names of the files beside OUT.

    Args:
        table: OUT as the user named it. A final .txt or .tsv is not part of the others' names.

    Raises:
        UserError: a name that is empty, too long, no UTF-8, or holds a null byte.
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
        longest = max(len(os.fsencode(path.name)) for path in (self.manifest, self.images))
        if longest > LONGEST_NAME:
            raise UserError(
                f"outfile {self.table.name[:20]}... is too long a name: with its endings it has "
                f"{longest} bytes, {LONGEST_NAME} are possible"
            )
        try:
            text = str(self.table.absolute()).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"outfile {str(self.table)!r} has bytes that are no UTF-8") from error
        if b"\0" in text:
            raise UserError(f"outfile {str(self.table)!r} holds a null byte")

    @property
    def results(self) -> tuple[Path, ...]:
        """What a finished run leaves, but for its manifest."""
        return self.table, self.journal, self.figure, self.images

    def parts_of_journals(self, digest: str = "") -> list[Path]:
        """The parts of ours that lie in the folder of parts, of one identity or of any."""
        found = sorted(self.parts.glob("*.jsonl")) if self.parts.is_dir() else []
        return [p for p in found if PART.fullmatch(p.name) and p.name.startswith(digest)]
