"""The files of a run: the table, the journal, the manifest, and the parts while it runs."""

import fcntl
import os
import platform
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diffsmooth import __version__
from diffsmooth.lit.probes import Probe, distinct, read_probes
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import Journal, JournalError, merge_records, read_journal
from diffsmooth.runs.line import to_line
from diffsmooth.runs.manifest import (
    Manifest,
    ManifestError,
    identity_digest,
    read_manifest,
    write_manifest,
)
from diffsmooth.runs.names import PART, OutputFiles
from diffsmooth.runs.same_run import check_same_run
from diffsmooth.runs.shard import Shard
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import to_tsv
from diffsmooth.whole_file import write_whole

ANEW = "--overwrite starts anew"
LOCK = re.compile(r"lock(\.claim|\.\d+of\d+)?")


class OutputError(UserError):
    """The output cannot be written, or belongs to another run."""


class Problem(NamedTuple):
    """A record that is not of the run's data, and in what, to be read after "image 3 "."""

    record: ImageRecord
    text: str


class RunContext(NamedTuple):
    """Where and how a run was made; free to change on resume.

    Attributes:
        probes: of all starts so far; one hardware must give one digest.
    """

    devices: int
    nodes: int
    accelerator: str
    classifier: str
    diffusion: str
    data_root: str
    shard: str = ""
    host: str = platform.node()
    version: str = __version__
    probes: tuple[Probe, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return self._asdict() | {"probes": [probe._asdict() for probe in self.probes]}


class Outputs:
    """The files of one run.

    Args:
        files: their names.
        identity: of the run. Parts and the final files are of this identity only.
        shard: of a process that does a part of the run only.

    Attributes:
        digest: short name of the identity as it stands in the manifest: a run keeps that of its
            first start, by whatever version of diffsmooth. Rank zero's `claim` finds it.
    """

    def __init__(
        self, files: OutputFiles, identity: RunIdentity, shard: Shard | None = None
    ) -> None:
        self.files = files
        self.identity = identity
        self.shard = shard
        self.digest = identity_digest(identity.stored())
        self._locks: dict[str, int] = {}
        self._read: dict[Path, tuple[tuple[int, int, int], Journal]] = {}

    def claim(
        self,
        context: RunContext,
        overwrite: bool,
        problem_of: Callable[[list[ImageRecord]], Problem | None] = lambda records: None,
    ) -> None:
        """Takes the files for the run, or finds that they are of this very run (resume).

        Rank zero only. The claim holds until the process ends.

        Args:
            context: goes into the manifest.
            overwrite: replace the files of a *different* run, and those that are broken; the run's
                own are kept.
            problem_of: finds the first record that is not of the run's data.

        Raises:
            OutputError: they belong to another run or a running process, or cannot be written.
        """
        files = self.files
        try:
            self._refuse_others_kinds()
            self._refuse_stranger(context, overwrite, problem_of)  # before anything is written
            files.parts.mkdir(parents=True, exist_ok=True)
            # Shards that start at once take their turn.
            self._lock("lock.claim", fcntl.LOCK_EX, wait=True)
            stranger = self._refuse_stranger(context, overwrite, problem_of)
            # Shards work side by side; the whole, and what replaces files, wants them all.
            together = self.shard is not None and not stranger
            self._lock("lock", fcntl.LOCK_SH if together else fcntl.LOCK_EX)
            if self.shard:
                self._lock(f"lock.{self.shard.number}of{self.shard.total}", fcntl.LOCK_EX)
            if stranger:
                for path in (*files.results, files.manifest, *files.parts_of_journals()):
                    path.unlink(missing_ok=True)
            stored = read_manifest(files.manifest)
            identity = self.identity.stored() if stored is None else stored.identity
            earlier = [] if stored is None else _probes_of(stored, files.manifest)
            context = context._replace(probes=distinct([*earlier, *context.probes]))
            manifest = Manifest(identity, context.to_dict())
            write_manifest(files.manifest, manifest)
            self.digest = manifest.digest
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
        manifest = read_manifest(self.files.manifest)
        if manifest is not None:
            self.digest = manifest.digest
        if self.files.parts.is_dir():
            self._refuse_others_kinds()
            self._lock("lock", fcntl.LOCK_EX)

    def _lock(self, name: str, kind: int, wait: bool = False) -> None:
        path = self.files.parts / name
        handle = self._locks.get(name)
        if handle is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            handle = self._locks[name] = os.open(path, flags, 0o644)
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

    def _refuse_others_kinds(self) -> None:
        """What is no file of its own, such as a link, is not ours to write, to lock or to remove.

        What would be found at the end is found before the first vote.
        """
        parts = self.files.parts
        if os.path.lexists(parts) and (parts.is_symlink() or not parts.is_dir()):
            raise OutputError(f"{parts}: is no folder of ours; choose another outfile")
        inside = sorted(parts.iterdir()) if parts.is_dir() else []
        inside = [path for path in inside if path.is_symlink() or _is_ours(path)]
        for path in (*self.files.results, self.files.manifest, *inside):
            if not os.path.lexists(path):
                continue
            kind = path.lstat().st_mode
            if not stat.S_ISREG(kind):
                what = "link" if stat.S_ISLNK(kind) else "folder" if stat.S_ISDIR(kind) else "pipe"
                raise OutputError(f"{path}: is a {what}, a file of our own is wanted there")

    def _refuse_stranger(
        self,
        context: RunContext,
        overwrite: bool,
        problem_of: Callable[[list[ImageRecord]], Problem | None],
    ) -> str:
        stranger = self._stranger(context.probes, problem_of)
        if stranger and not overwrite:
            raise OutputError(f"{stranger}: choose another outfile, or --overwrite")
        return stranger

    def _stranger(
        self,
        probes: tuple[Probe, ...],
        problem_of: Callable[[list[ImageRecord]], Problem | None],
    ) -> str:
        """What among the files is of another run, or broken, in words; "" if nothing is."""
        files = self.files
        try:
            manifest = read_manifest(files.manifest)
            if manifest is None:
                others = sorted(files.parts.glob("*.jsonl")) if files.parts.is_dir() else []
                for path in (*files.results, *others):
                    if os.path.lexists(path):
                        return f"{path} exists and is not of a run of ours"
                return ""
            difference = self.identity.difference(manifest.identity)
            if difference:
                return f"{files.table} belongs to a different run ({difference})"
            earlier = _probes_of(manifest, files.manifest)
            for probe in probes:
                if any(probe.contradicts(other) for other in earlier):
                    return (
                        f"{files.table}: the networks computed other numbers from the same batch "
                        f"when the run was begun, also on {probe.device} (libraries, drivers, "
                        "environment?)"
                    )
            problem = problem_of(self._records_of(manifest))
            if problem is not None:
                return self._place_of(problem.record, manifest) + problem.text
        except (JournalError, ManifestError) as error:
            return str(error)
        return ""

    def new_part(self, rank: int) -> Path:
        """The journal that this process writes while it runs; its name recurs never."""
        self.files.parts.mkdir(parents=True, exist_ok=True)  # a node may have a disk of its own
        unique = f"rank{rank}-{platform.node()[:100]}-{os.getpid()}-{time.time_ns()}"
        return self.files.parts / f"{self.digest}-{unique}.jsonl"

    def holds(self, selection: list[int]) -> bool:
        """Whether all these images are done: there is nothing to vote on."""
        try:
            manifest = read_manifest(self.files.manifest)
            if manifest is None or self.identity.difference(manifest.identity):
                return False
            done = {record.index for record in self.read_records() if not record.error}
        except (ManifestError, OutputError):
            return False  # whoever claims the files says what is wrong with them
        return done.issuperset(selection)

    def read_records(self) -> list[ImageRecord]:
        """What this run has written so far, finished or not.

        Raises:
            OutputError: a broken journal, or one that is not of the manifest.
        """
        manifest = Manifest(self.identity.stored(), {})
        try:
            return self._records_of(read_manifest(self.files.manifest) or manifest)
        except (JournalError, ManifestError) as error:
            raise OutputError(f"{error}; {ANEW}") from error

    def _records_of(self, manifest: Manifest) -> list[ImageRecord]:
        """The records of the run that a manifest describes."""
        records = list[ImageRecord]()
        for path in self._journals(manifest):
            journal = self._journal(path)
            check_same_run(manifest, self.files.manifest, journal, path)
            records += journal.records
        return merge_records(records)

    def _journal(self, path: Path) -> Journal:
        """A journal, read again only if it has changed: each line's bound is computed anew."""
        state = path.stat()
        key = (state.st_ino, state.st_size, state.st_mtime_ns)
        if path not in self._read or self._read[path][0] != key:
            self._read[path] = key, read_journal(path)
        return self._read[path][1]

    def _place_of(self, record: ImageRecord, manifest: Manifest) -> str:
        """File and line of a record, as the begin of a message."""
        for path in self._journals(manifest):
            journal = self._journal(path)
            for known, line in zip(journal.records, journal.lines, strict=True):
                if known == record:
                    return f"{path}, line {line}: image {record.index} "
        return f"{self.files.journal}: image {record.index} "  # another shard has just changed it

    def _journals(self, manifest: Manifest) -> list[Path]:
        whole = self.files.journal
        parts = self.files.parts_of_journals(manifest.digest)
        return [*([whole] if whole.is_file() else []), *parts]

    def strangers(self) -> list[Path]:
        """Parts of another identity, which shards with other threads, say, have left here."""
        own = set(self.files.parts_of_journals(self.digest))
        return [path for path in self.files.parts_of_journals() if path not in own]

    def finish(self, records: list[ImageRecord], columns: tuple[str, ...]) -> None:
        """Writes the merged journal and the table, each whole or not at all; removes the parts.

        Raises:
            OutputError: another run has taken the files meanwhile, or they cannot be written.
        """
        files = self.files
        stored = read_manifest(files.manifest)
        if stored is None or stored.digest != self.digest:
            raise OutputError(f"{files.table}: another run has taken the files")
        try:
            lines = "".join(to_line(record) + "\n" for record in records)
            write_whole(files.journal, lines.encode())
            write_whole(files.table, to_tsv(records, columns).encode())
            self._remove_parts()
            self.release()
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error

    def _remove_parts(self) -> None:
        """Removes what is ours, and the folder if nothing else is in it."""
        parts = self.files.parts
        if not parts.is_dir():
            return
        for path in (*self.files.parts_of_journals(), *parts.glob("lock*")):
            if _is_ours(path):
                path.unlink(missing_ok=True)
        if not any(parts.iterdir()):
            parts.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether what lies among the parts has a name that we give there."""
    return bool(LOCK.fullmatch(path.name) or PART.fullmatch(path.name))


def _probes_of(manifest: Manifest, path: Path) -> list[Probe]:
    try:
        return read_probes(manifest.context)
    except (ValueError, TypeError) as error:
        raise ManifestError(f"{path}: not a manifest (broken probes)") from error
