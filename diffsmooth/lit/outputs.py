"""The files of a run: the table, the journal, the manifest, and the parts while it runs."""

import fcntl
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

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


class OutputFiles:
    """The names of the files beside OUT.

    Args:
        table: OUT as the user named it. A final .txt or .tsv is not part of the others' names.

    Raises:
        OutputError: an empty name.
    """

    def __init__(self, table: Path | str) -> None:
        self.table = Path(table)
        if not self.table.name:
            raise OutputError(f"outfile {str(table)!r} is not the name of a file")
        stem = self.table.with_suffix("") if self.table.suffix in (".txt", ".tsv") else self.table
        self.stem = stem
        self.name = stem.name
        self.journal = stem.with_name(f"{stem.name}.jsonl")
        self.manifest = stem.with_name(f"{stem.name}.manifest.json")
        self.figure = stem.with_name(f"{stem.name}.png")
        self.parts = stem.with_name(f"{stem.name}.parts")

    def stored_identity(self) -> dict[str, Any] | None:
        """The identity in the manifest, None where there is no manifest.

        Raises:
            OutputError: a broken manifest.
        """
        if not self.manifest.is_file():
            return None
        try:
            identity = json.loads(self.manifest.read_text())["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.manifest}: broken; --overwrite starts anew") from error
        if not isinstance(identity, dict):
            raise OutputError(f"{self.manifest}: broken; --overwrite starts anew")
        return identity


class Outputs:
    """The files of one run.

    Args:
        files: their names.
        identity: of the run. Parts and the final files are of this identity only.
    """

    def __init__(self, files: OutputFiles, identity: RunIdentity) -> None:
        self.files = files
        self.identity = identity
        self._lock: int | None = None

    def claim(self, context: RunContext, overwrite: bool) -> None:
        """Takes the files for the run, or finds that they are of this very run (resume).

        Rank zero only. The claim holds until the process ends.

        Args:
            context: goes into the manifest.
            overwrite: replace the files of a *different* run; the run's own are kept.

        Raises:
            OutputError: they belong to another run or a running process, or cannot be written.
        """
        files = self.files
        try:
            if files.table.is_dir():
                raise OutputError(f"{files.table}: is a folder, a file is wanted")
            stranger = self._stranger()
            if stranger and not overwrite:
                raise OutputError(f"{stranger}: choose another outfile, or --overwrite")
            files.parts.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if stranger:
                for path in (files.table, files.journal, files.manifest, files.figure):
                    path.unlink(missing_ok=True)
                for path in files.parts.glob("*.jsonl"):
                    path.unlink()
            manifest = {
                "identity": json.loads(self.identity.to_json()),
                "context": context._asdict(),
            }
            _write(files.manifest, json.dumps(manifest, indent=2) + "\n")
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error

    def _take_lock(self) -> None:
        handle = os.open(self.files.parts / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise OutputError(f"{self.files.table}: another process is at work on it") from error
        self._lock = handle

    def release(self) -> None:
        """Ends the claim, as the end of the process does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _stranger(self) -> str:
        """What among the files is of another run, in words; "" if nothing is."""
        files = self.files
        try:
            stored = files.stored_identity()
        except OutputError as error:
            return str(error).partition(";")[0]
        if stored is not None:
            difference = self.identity.difference(stored)
            return f"{files.table} belongs to a different run ({difference})" if difference else ""
        for path in (files.table, files.journal, files.figure, files.parts):
            if path.exists():
                return f"{path} exists and is not of a run of ours"
        return ""

    def new_part(self, rank: int) -> Path:
        """The journal that this process writes while it runs; its name recurs never."""
        self.files.parts.mkdir(parents=True, exist_ok=True)  # a node may have a disk of its own
        unique = f"rank{rank}-{platform.node()}-{os.getpid()}-{time.time_ns()}"
        return self.files.parts / f"{self.identity.digest()}-{unique}.jsonl"

    def read_records(self) -> list[ImageRecord]:
        """What this run has written so far, finished or not.

        Raises:
            OutputError: a broken journal.
        """
        journals = [self.files.journal] if self.files.journal.is_file() else []
        if self.files.parts.is_dir():
            journals += sorted(self.files.parts.glob(f"{self.identity.digest()}-*.jsonl"))
        try:
            return merge_records([record for path in journals for record in read_journal(path)])
        except ValueError as error:
            raise OutputError(f"{error}; --overwrite starts anew") from error

    def finish(self, records: list[ImageRecord], columns: tuple[str, ...]) -> None:
        """Writes the merged journal and the table, each whole or not at all; removes the parts.

        Raises:
            OutputError: another run has taken the files meanwhile, or they cannot be written.
        """
        files = self.files
        stored = files.stored_identity()
        if stored is None or self.identity.difference(stored):
            raise OutputError(f"{files.table}: another run has taken the files")
        try:
            _write(files.journal, "".join(record.to_json() + "\n" for record in records))
            _write(files.table, to_tsv(records, columns))
            shutil.rmtree(files.parts)
            self.release()
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
