"""The files of a run: the table, the journal, the manifest, and the parts while it runs."""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from diffsmooth.lit.identity import RunIdentity
from diffsmooth.lit.journal import merge_records, read_journal
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.results import to_tsv


class OutputError(ValueError):
    """The output cannot be written, or belongs to another run."""


class RunContext(NamedTuple):
    """Where and how a run was made; free to change on resume."""

    devices: int
    nodes: int
    accelerator: str
    classifier: str
    diffusion: str
    data_root: str
    host: str = platform.node()


class Outputs:
    """The files beside OUT.

    Args:
        table: OUT as the user named it. A final .txt or .tsv is not part of the others' names:
            OUT.jsonl, OUT.manifest.json, OUT.images.png, OUT.parts/.
    """

    def __init__(self, table: Path | str) -> None:
        self.table = Path(table)
        stem = self.table.with_suffix("") if self.table.suffix in (".txt", ".tsv") else self.table
        self.name = stem.name
        self.journal = stem.with_name(f"{stem.name}.jsonl")
        self.manifest = stem.with_name(f"{stem.name}.manifest.json")
        self.figure = stem.with_name(f"{stem.name}.png")
        self.parts = stem.with_name(f"{stem.name}.parts")

    def prepare(self, identity: RunIdentity, context: RunContext, overwrite: bool) -> None:
        """Claims the files for a run, or finds that they are of this very run (resume).

        Raises:
            OutputError: they belong to another run, or cannot be written.
        """
        try:
            if overwrite:
                for path in (self.table, self.journal, self.manifest, self.figure):
                    path.unlink(missing_ok=True)
                shutil.rmtree(self.parts, ignore_errors=True)
            if self.table.is_dir():
                raise OutputError(f"{self.table}: is a folder, a file is wanted")
            self._refuse_other_run(identity)
            self.parts.mkdir(parents=True, exist_ok=True)
            manifest = {"identity": json.loads(identity.to_json()), "context": context._asdict()}
            _write(self.manifest, json.dumps(manifest, indent=2) + "\n")
        except OSError as error:
            raise OutputError(f"{self.table}: cannot be written ({error.strerror})") from error

    def _refuse_other_run(self, identity: RunIdentity) -> None:
        if self.manifest.is_file():
            try:
                stored = json.loads(self.manifest.read_text())["identity"]
                difference = identity.difference(stored)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise OutputError(f"{self.manifest}: broken; --overwrite starts anew") from error
            if difference:
                raise OutputError(
                    f"{self.table} belongs to a different run ({difference}): "
                    "choose another outfile, or --overwrite"
                )
        else:
            for path in (self.table, self.journal, self.parts):
                if path.exists():
                    raise OutputError(
                        f"{path} exists and is not of a run of ours: "
                        "choose another outfile, or --overwrite"
                    )

    def part(self, rank: int) -> Path:
        """The journal that this process writes while it runs."""
        return self.parts / f"rank{rank}-{platform.node()}-{os.getpid()}.jsonl"

    def read_records(self) -> list[ImageRecord]:
        """What earlier runs, finished or not, have written.

        Raises:
            OutputError: a broken journal.
        """
        journals = [self.journal] if self.journal.is_file() else []
        if self.parts.is_dir():
            journals += sorted(self.parts.glob("*.jsonl"))
        try:
            return merge_records([record for path in journals for record in read_journal(path)])
        except ValueError as error:
            raise OutputError(f"{error}; --overwrite starts anew") from error

    def finish(self, records: list[ImageRecord], columns: tuple[str, ...]) -> None:
        """Writes the merged journal and the table, each whole or not at all; removes the parts."""
        _write(self.journal, "".join(record.to_json() + "\n" for record in records))
        _write(self.table, to_tsv(records, columns))
        shutil.rmtree(self.parts, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
