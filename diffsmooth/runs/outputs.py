"""The files of a run that writes them: claimed at its start, made whole at its end."""

import errno
import fcntl
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import JournalError
from diffsmooth.runs.line import to_line
from diffsmooth.runs.manifest import (
    Manifest,
    ManifestError,
    RunContext,
    computed_by,
    read_manifest,
    write_manifest,
)  # fmt: skip
from diffsmooth.runs.names import OutputError, OutputFiles, Shard
from diffsmooth.runs.probes import Probe
from diffsmooth.runs.reading import OwnJournals
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import (
    ATTACK_COLUMNS,
    CERTIFY_COLUMNS,
    PREDICT_COLUMNS,
    to_tsv,
)
from diffsmooth.whole_file import write_whole

COLUMNS = {"certify": CERTIFY_COLUMNS, "predict": PREDICT_COLUMNS, "attack": ATTACK_COLUMNS}
AT_WORK = ": another process is at work on it"
FINISHED = "computed_by"  # in the context of a finished run's manifest
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
ANEW = "choose another outfile, or remove its files (--overwrite)"


class Problem(NamedTuple):
    """A record that is not of the run's data, and in what, to be read after "image 3 "."""

    record: ImageRecord
    text: str


ProblemOf = Callable[[list[ImageRecord]], Problem | None]


def binds_nobody(files: OutputFiles) -> bool:
    """Whether a run was begun here and has finished no image, so that nothing is lost by another.

    A finished run, whose results may lie elsewhere by now, binds; so does one of another host,
    whose locks may not be seen here, and one of a version before 0.3, which does not say this.
    """
    try:
        manifest = read_manifest(files.manifest)
    except ManifestError:
        return False
    context = {} if manifest is None else manifest.context
    if not context.get("begun") or FINISHED in context or context.get("host") != platform.node():
        return False
    results = any(map(os.path.lexists, files.results))
    return not (results or any(map(_has_lines, files.parts_of_journals())))


def _has_lines(part: Path) -> bool:
    try:
        return part.stat().st_size > 0
    except FileNotFoundError:  # a run that ended in between has removed its parts
        return True


class Locks:
    """Locks of this process on the files of a run; they end with the process."""

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._handles: dict[str, int] = {}

    def take(self, name: str, kind: int, wait: bool = False) -> None:
        """Takes a lock, or changes its kind: LOCK_EX of one process, or LOCK_SH of many.

        Raises:
            OutputError: others hold it, and there is no waiting; all locks are let go.
        """
        path = self._files.parts / name
        handle, is_new = self._handles.get(name), False
        if handle is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            with suppress(FileExistsError):
                handle, is_new = os.open(path, flags | os.O_EXCL, 0o644), True
            if handle is None:
                handle = os.open(path, flags, 0o644)
            self._handles[name] = handle
        try:
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
            # A run that ended in between has removed the folder, and this file with it.
            ours = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
        except BlockingIOError:
            ours = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self.drop()
            if is_new:  # else it may be what a run on another host holds
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    path.parent.rmdir()
            raise OutputError(
                f"{self._files.table}: its file system has no file locks, by which two runs are "
                f"kept apart ({error.strerror}): mount it with locks (Lustre: -o flock), or write "
                "elsewhere"
            ) from error
        if not ours:
            self.drop()
            raise OutputError(f"{self._files.table}{AT_WORK}")

    def drop(self, *names: str) -> None:
        """Lets some go, or all."""
        for name in names or tuple(self._handles):
            os.close(self._handles.pop(name))


class Outputs:
    """The files of one run.

    Args:
        files: their names.
        identity: the run's. Parts and the final files are of this identity only.
        shard: what this process does, where that is a part of the run only.

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
        self._begun = Manifest(files.manifest, identity.recorded(), {})
        self.digest = self._begun.digest
        self._locks = Locks(files)
        self._journals = OwnJournals(files)

    def claim(
        self,
        context: RunContext,
        overwrite: bool,
        problem_of: ProblemOf = lambda records: None,
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
            files.refuse_others_kinds()
            self._stranger(context, overwrite, problem_of)  # before anything is written
            files.parts.mkdir(parents=True, exist_ok=True)
            # Shards that start at once take their turn.
            self._locks.take("lock.claim", fcntl.LOCK_EX, wait=True)
            stranger = self._stranger(context, overwrite, problem_of)
            # Shards work side by side; the whole, and what replaces files, wants them all.
            together = self.shard is not None and not stranger
            try:
                self._locks.take("lock", fcntl.LOCK_SH if together else fcntl.LOCK_EX)
            except OutputError as error:
                raise OutputError(f"{stranger or files.table}{AT_WORK}") from error
            if self.shard:
                self._locks.take(f"lock.{self.shard.number}of{self.shard.total}", fcntl.LOCK_EX)
            if stranger:
                for path in (*files.results, files.manifest, *files.parts_of_journals()):
                    path.unlink(missing_ok=True)
            manifest = read_manifest(files.manifest)
            if manifest is None:  # a run that begins has made all its choices
                manifest = self._begun._replace(identity=self.identity.stored())
            probes = tuple(dict.fromkeys([*manifest.probes, *context.probes]))  # each once
            begun = manifest.context.get("begun") or context.begun
            context = context._replace(probes=probes, begun=begun)
            stored = context.to_dict()
            if FINISHED in manifest.context:  # a shard that is run again ends no run
                stored[FINISHED] = manifest.context[FINISHED]
            write_manifest(manifest._replace(context=stored))
            self.digest = manifest.digest
            if self.shard and stranger:
                self._locks.take("lock", fcntl.LOCK_SH)  # from now on, others may join
            self._locks.drop("lock.claim")
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error

    def hold(self) -> None:
        """Keeps all others from the files of a run that was claimed before.

        Raises:
            OutputError: a process is at work on them.
        """
        self.digest = (read_manifest(self.files.manifest) or self._begun).digest
        if self.files.parts.is_dir():
            self.files.refuse_others_kinds()
            self._locks.take("lock", fcntl.LOCK_EX)

    def release(self) -> None:
        """Ends the claim, as the end of the process does."""
        self._locks.drop()

    def _stranger(self, context: RunContext, overwrite: bool, problem_of: ProblemOf) -> str:
        """What is of another run, or broken; "" where nothing is.

        Refused unless it may be overwritten, or nothing would be lost by that.
        """
        try:
            self._check_own(context.probes, problem_of)
        except (JournalError, ManifestError, OutputError) as error:
            is_lost = not (isinstance(error, OutputError) and binds_nobody(self.files))
            if is_lost and not overwrite:
                raise OutputError(f"{error}: {ANEW}") from error
            return str(error)
        return ""

    def _check_own(self, probes: tuple[Probe, ...], problem_of: ProblemOf) -> None:
        files = self.files
        manifest = read_manifest(files.manifest)
        if manifest is None:
            others = sorted(files.parts.glob("*.jsonl")) if files.parts.is_dir() else []
            for path in (*files.results, *others):
                if os.path.lexists(path):
                    raise OutputError(f"{path} exists and is not of a run of ours")
            return
        difference = self.identity.difference(manifest.identity)
        if difference:
            raise OutputError(f"{files.table} belongs to a different run ({difference})")
        for probe in () if self.identity.kernels == "timed" else probes:
            if any(probe.contradicts(other) for other in manifest.probes):
                raise OutputError(
                    f"{files.table}: the networks computed other numbers from the same batch when "
                    f"the run was begun, also on {probe.device} (libraries, drivers, environment?)"
                )
        problem = problem_of(self._journals.records(manifest))
        if problem is not None:
            raise OutputError(self._journals.place_of(problem.record, manifest) + problem.text)

    def new_part(self, rank: int) -> Path:
        """The journal that this process writes while it runs; its name recurs never."""
        self.files.parts.mkdir(parents=True, exist_ok=True)  # a node may have a disk of its own
        unique = f"rank{rank}-{platform.node()[:100]}-{os.getpid()}-{time.time_ns()}"
        return self.files.parts / f"{self.digest}-{unique}.jsonl"

    def done(self) -> set[int]:
        """The images that this run has done; none of files that are not its own."""
        try:
            manifest = read_manifest(self.files.manifest)
            if manifest is None or self.identity.difference(manifest.identity):
                return set()
            records = self._journals.records(manifest)
            return {record.index for record in records if not record.error}
        except UserError:
            return set()  # whoever claims the files says what is wrong with them

    def read_records(self) -> list[ImageRecord]:
        """What this run, claimed or held, has written so far, finished or not.

        Nothing where another run's files lie, as on the disk of a node where rank zero is not: it
        replaces those of its own disk only.

        Raises:
            OutputError: a broken journal, or one that is not of the manifest.
        """
        try:
            manifest = read_manifest(self.files.manifest) or self._begun
            return self._journals.records(manifest) if manifest.digest == self.digest else []
        except (JournalError, ManifestError) as error:
            raise OutputError(f"{error}; {ANEW}") from error

    def strangers(self) -> list[Path]:
        """Parts of another identity, which shards with other threads, say, have left here."""
        parts = self.files.parts_of_journals()
        return [path for path in parts if not path.name.startswith(self.digest)]

    def finish(self, records: list[ImageRecord]) -> None:
        """Writes the merged journal and the table, each whole or not at all; removes the parts.

        What others have put into the folder of parts stays.

        Raises:
            OutputError: another run has taken the files meanwhile, or they cannot be written.
        """
        files = self.files
        columns = COLUMNS[self.identity.command]
        stored = read_manifest(files.manifest)
        if stored is None or stored.digest != self.digest:
            raise OutputError(f"{files.table}: another run has taken the files")
        try:
            lines = "".join(to_line(record) + "\n" for record in records)
            write_whole(files.journal, lines.encode())
            write_whole(files.table, to_tsv(records, columns).encode())
            # Last: all bounds were computed here, also those of lines that others wrote.
            context = {**stored.context, FINISHED: computed_by()}
            write_manifest(stored._replace(context=context))
            for path in files.among_parts():
                path.unlink(missing_ok=True)
            if files.parts.is_dir() and not any(files.parts.iterdir()):
                files.parts.rmdir()
            self.release()
        except OSError as error:
            raise OutputError(f"{files.table}: cannot be written ({error.strerror})") from error
