"""The files of a run: the table, the journal, the manifest, and the parts while it runs."""

import fcntl
import json
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from diffsmooth.lit.identity import RunIdentity
from diffsmooth.lit.journal import merge_records, read_journal
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import to_tsv
from diffsmooth.whole_file import whole_file


class OutputError(UserError):
    """The output cannot be written, or belongs to another run."""


class RunContext(NamedTuple):
    """Where and how a run was made; free to change on resume."""

    devices: int
    nodes: int
    accelerator: str
    classifier: str
    diffusion: str
    data_root: str
    shard: str = ""
    host: str = platform.node()


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

    def part_of(self, selection: list[int]) -> list[int]:
        """This shard's images."""
        return selection[self.number - 1 :: self.total]


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
        self.images = stem.with_name(f"{stem.name}.images.npz")
        self.parts = stem.with_name(f"{stem.name}.parts")

    @property
    def results(self) -> tuple[Path, ...]:
        """What a finished run leaves, but for its manifest."""
        return self.table, self.journal, self.figure, self.images

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
        shard: of a process that does a part of the run only.
    """

    def __init__(
        self, files: OutputFiles, identity: RunIdentity, shard: Shard | None = None
    ) -> None:
        self.files = files
        self.identity = identity
        self.shard = shard
        self._locks: dict[str, int] = {}

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
            self._refuse_stranger(overwrite)  # before anything is written
            files.parts.mkdir(parents=True, exist_ok=True)
            # Shards that start at once take their turn.
            self._lock("lock.claim", fcntl.LOCK_EX, wait=True)
            stranger = self._refuse_stranger(overwrite)
            # Shards work side by side; the whole, and what replaces files, wants them all.
            together = self.shard is not None and not stranger
            self._lock("lock", fcntl.LOCK_SH if together else fcntl.LOCK_EX)
            if self.shard:
                self._lock(f"lock.{self.shard.number}of{self.shard.total}", fcntl.LOCK_EX)
            if stranger:
                for path in (*files.results, files.manifest):
                    path.unlink(missing_ok=True)
                for path in files.parts.glob("*.jsonl"):
                    path.unlink()
            manifest = {
                "identity": json.loads(self.identity.to_json()),
                "context": context._asdict(),
            }
            _write(files.manifest, json.dumps(manifest, indent=2) + "\n")
            if self.shard and stranger:
                self._lock("lock", fcntl.LOCK_SH)  # from now on, others may join
            self._unlock("lock.claim")
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error

    def hold(self) -> None:
        """Keeps all others from the files of a run that was claimed before.

        Raises:
            OutputError: a process is at work on them.
        """
        if self.files.parts.is_dir():
            self._lock("lock", fcntl.LOCK_EX)

    def _lock(self, name: str, kind: int, wait: bool = False) -> None:
        path = self.files.parts / name
        handle = self._locks.get(name)
        if handle is None:
            handle = self._locks[name] = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
            # A run that ended in between has removed the folder, and this file with it.
            ours = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
        except BlockingIOError:
            ours = False
        if not ours:
            self.release()
            raise OutputError(f"{self.files.table}: another process is at work on it")

    def _unlock(self, name: str) -> None:
        os.close(self._locks.pop(name))

    def release(self) -> None:
        """Ends the claim, as the end of the process does."""
        for name in list(self._locks):
            self._unlock(name)

    def _refuse_stranger(self, overwrite: bool) -> str:
        stranger = self._stranger()
        if stranger and not overwrite:
            raise OutputError(f"{stranger}: choose another outfile, or --overwrite")
        return stranger

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
        parts = sorted(files.parts.glob("*.jsonl"))
        for path in (*files.results, *parts):
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

    def strangers(self) -> list[Path]:
        """Parts of another identity, which shards with other threads, say, have left here."""
        own = f"{self.identity.digest()}-"
        return [p for p in sorted(self.files.parts.glob("*.jsonl")) if not p.name.startswith(own)]

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
            if files.parts.is_dir():
                shutil.rmtree(files.parts)
            self.release()
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial, open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
