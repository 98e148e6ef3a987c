"""The files of a run that writes them: claimed at its start, made whole at its end."""

import fcntl
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import JournalError
from diffsmooth.runs.line import to_line
from diffsmooth.runs.locks import Locks
from diffsmooth.runs.manifest import (
    Manifest,
    ManifestError,
    RunContext,
    identity_digest,
    read_manifest,
    write_manifest,
)
from diffsmooth.runs.names import OutputError, OutputFiles
from diffsmooth.runs.own_journals import OwnJournals
from diffsmooth.runs.probes import Probe, distinct
from diffsmooth.runs.shard import Shard
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import to_tsv
from diffsmooth.whole_file import write_whole

ANEW = "--overwrite starts anew"


class Problem(NamedTuple):
    """A record that is not of the run's data, and in what, to be read after "image 3 "."""

    record: ImageRecord
    text: str


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
        self._locks = Locks(files)
        self._journals = OwnJournals(files)

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
            files.refuse_others_kinds()
            self._refuse_stranger(context, overwrite, problem_of)  # before anything is written
            files.parts.mkdir(parents=True, exist_ok=True)
            # Shards that start at once take their turn.
            self._locks.take("lock.claim", fcntl.LOCK_EX, wait=True)
            stranger = self._refuse_stranger(context, overwrite, problem_of)
            # Shards work side by side; the whole, and what replaces files, wants them all.
            together = self.shard is not None and not stranger
            self._locks.take("lock", fcntl.LOCK_SH if together else fcntl.LOCK_EX)
            if self.shard:
                self._locks.take(f"lock.{self.shard.number}of{self.shard.total}", fcntl.LOCK_EX)
            if stranger:
                for path in (*files.results, files.manifest, *files.parts_of_journals()):
                    path.unlink(missing_ok=True)
            stored = read_manifest(files.manifest)
            identity = self.identity.stored() if stored is None else stored.identity
            earlier = [] if stored is None else stored.probes
            context = context._replace(probes=distinct([*earlier, *context.probes]))
            manifest = Manifest(files.manifest, identity, context.to_dict())
            write_manifest(manifest)
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
        manifest = read_manifest(self.files.manifest)
        if manifest is not None:
            self.digest = manifest.digest
        if self.files.parts.is_dir():
            self.files.refuse_others_kinds()
            self._locks.take("lock", fcntl.LOCK_EX)

    def release(self) -> None:
        """Ends the claim, as the end of the process does."""
        self._locks.release()

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
            for probe in probes:
                if any(probe.contradicts(other) for other in manifest.probes):
                    return (
                        f"{files.table}: the networks computed other numbers from the same batch "
                        f"when the run was begun, also on {probe.device} (libraries, drivers, "
                        "environment?)"
                    )
            problem = problem_of(self._journals.records(manifest))
            if problem is not None:
                return self._journals.place_of(problem.record, manifest) + problem.text
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
        except UserError:
            return False  # whoever claims the files says what is wrong with them
        return done.issuperset(selection)

    def read_records(self) -> list[ImageRecord]:
        """What this run has written so far, finished or not.

        Raises:
            OutputError: a broken journal, or one that is not of the manifest.
        """
        manifest = Manifest(self.files.manifest, self.identity.stored(), {})
        try:
            return self._journals.records(read_manifest(manifest.path) or manifest)
        except (JournalError, ManifestError) as error:
            raise OutputError(f"{error}; {ANEW}") from error

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
        for path in self.files.among_parts():
            path.unlink(missing_ok=True)
        if self.files.parts.is_dir() and not any(self.files.parts.iterdir()):
            self.files.parts.rmdir()
