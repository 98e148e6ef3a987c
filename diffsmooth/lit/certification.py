"""The certification predict loop: images of many ranks through an engine that fills its batches."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from diffsmooth.lit.data.images import ImageSet, Sample, image_digest
from diffsmooth.lit.gather import from_all_ranks, gather_records
from diffsmooth.lit.probes import probe_images, probe_of
from diffsmooth.lit.progress import JobProgress
from diffsmooth.lit.shared_work import SharedWork, Turns
from diffsmooth.lit.stopping import StopOnSigterm
from diffsmooth.models.smoothing.engine import IN_FLIGHT, Task, VoteEngine
from diffsmooth.models.smoothing.fixed_function import FixedFunction, check_unchanged, ensure_fixed
from diffsmooth.models.smoothing.noise import NoiseKey, SourceName, noise_source
from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
from diffsmooth.runs.journal import JournalWriter
from diffsmooth.runs.manifest import RunContext
from diffsmooth.runs.names import OutputError
from diffsmooth.runs.outputs import Outputs, Problem
from diffsmooth.runs.probes import Probe, contradiction, difference_of_devices, distinct
from diffsmooth.stats import Certificate, ImageRecord, Plan
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin

FAILURES_IN_A_ROW = 10  # then it is not the images
READ_AGAIN = 100  # images of a resumed run, at most, that are decoded to see that they are the same


class CertificationError(UserError):
    """Certification cannot go on."""


@dataclass(frozen=True)
class Loaded:
    """An image as it came from the disk, or the error instead."""

    index: int
    sample: Sample | None
    error: str


class Guarded(Dataset[Loaded]):
    """A dataset whose broken items are told, not raised: one must not end the run."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Loaded:
        try:
            return Loaded(index, self._images[index], "")
        except Exception as error:
            return Loaded(index, None, f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Work:
    """What is certified, and how.

    Attributes:
        smoothed: the smoothed classifier.
        plan: how many votes to ask for, and what to conclude.
        images: the dataset.
        selection: indices of the images to do.
        noise: where the votes' noise comes from.
        in_flight: images at once, at most, on each rank.
        check: run by rank zero before anything is written; raises ValueError to stop the run.
        prepare: run by every rank when the networks are on their device, before the claim.
    """

    smoothed: SmoothedClassifier
    plan: Plan
    images: ImageSet
    selection: list[int]
    noise: SourceName = "numpy"
    in_flight: int = IN_FLIGHT
    check: Callable[[], None] = lambda: None
    prepare: Callable[[], None] = lambda: None


class CertificationModule(pl.LightningModule):
    """Runs a plan on each selected image: `trainer.predict(module, return_predictions=False)`.

    Every image goes to the journal when it is done, and the images that a journal already holds are
    left out, so that running the same command again goes on where it stopped. An image that raises
    is recorded, too, and tried again then.

    Args:
        work: what to do.
        outputs: the run's files; rank zero claims them.
        context: goes into the manifest.
        overwrite: whether the files of a different run may be replaced.
    """

    def __init__(self, work: Work, outputs: Outputs, context: RunContext, overwrite: bool) -> None:
        super().__init__()
        # There may be fewer images than ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.smoothed = work.smoothed
        self.work = work
        self.outputs = outputs
        self.records: list[ImageRecord] = []
        self._context = context
        self._overwrite = overwrite
        self._stop = StopOnSigterm()
        self._prepared = False
        self._failures = 0
        self._progress: JobProgress | None = None

    def setup(self, stage: str) -> None:
        # Here, and not before: Lightning sets the threads of its own accord when it launches.
        torch.set_num_threads(self.outputs.identity.threads)
        self._agree()
        selected = set(self.work.selection)
        known = [r for r in self.outputs.read_records() if r.index in selected]
        self.records = [record for record in known if not record.error]
        done = set().union(*from_all_ranks({record.index for record in self.records}))
        pending = [index for index in self.work.selection if index not in done]
        self._shared = SharedWork(pending, self._address())
        self._journal = JournalWriter(self.outputs.new_part(self.global_rank))
        if self.global_rank == 0 and pending:
            self._progress = JobProgress(self.work.plan, self.records, len(self.work.selection))

    def _address(self) -> str:
        environment = getattr(self.trainer.strategy, "cluster_environment", None)
        return "localhost" if environment is None else environment.main_address

    def _agree(self) -> None:
        """All ranks must be the same run, on f that is one fixed function, or all fail alike.

        Then rank zero claims the files.
        """
        problem, probe = "", None
        try:
            if self.global_rank == 0:
                self.work.check()
            if not self.outputs.holds(self.work.selection):
                found = self._ensure_fixed()
                probe = probe_of(self._root_device, found)
                if self.global_rank == 0 and not found.exact:
                    print(found)
        except UserError as error:
            problem = str(error)
        said = from_all_ranks((problem, self.outputs.identity.stored(), probe))
        for rank, (problem, identity, _) in enumerate(said):
            if problem:
                raise OutputError(f"rank {rank}: {problem}" if rank else problem)
            if identity != said[0][1]:
                difference = self.outputs.identity.difference(identity)
                raise OutputError(f"rank {rank} is not the same run as rank 0: {difference}")
        self._claim([probe for _, _, probe in said])

    def _claim(self, probes: list[Probe | None]) -> None:
        problem = contradiction(probes)
        if self.global_rank == 0 and not problem:
            if note := difference_of_devices(probes):
                print(note)
            try:
                context = self._context._replace(probes=distinct(probes))
                self.outputs.claim(context, self._overwrite, self._problem_of)
            except UserError as error:
                problem = str(error)
        problem, self.outputs.digest = from_all_ranks((problem, self.outputs.digest))[0]
        if problem:
            raise OutputError(problem)

    def _problem_of(self, records: list[ImageRecord]) -> Problem | None:
        """The first record whose image or label is not that of the data.

        The files as such are compared by the identity; this is for what comes out of them, and for
        what was written into a journal.
        """
        images, voted = self.work.images, []
        for record in records:
            label = int(images.labels[record.index])
            if record.label != label:
                return Problem(record, f"has label {record.label}, but the data give it {label}")
            if record.origin is None:
                continue
            name = images.file_name(record.index)
            if record.origin.file != name:
                return Problem(record, f"is of the file {record.origin.file!r}, not of {name!r}")
            if not record.error:
                voted.append((record, record.origin.image))
        step = 1 if images.in_memory else -(-len(voted) // READ_AGAIN)
        for record, digest in voted[:: step or 1]:
            if image_digest(images[record.index].image) != digest:
                return Problem(record, "is not the one that was certified")
        return None

    def _ensure_fixed(self) -> FixedFunction:
        """Prepares the networks and looks whether f is one fixed function, once."""
        if not self._prepared:
            self.smoothed.to(self._root_device).eval()
            self.work.prepare()
            self._prepared = True
        f = self.smoothed.f
        images = probe_images(self.work.images, self.outputs.identity.selection, f.image_shape)
        return ensure_fixed(f, images, self._say)

    def _say(self, line: str) -> None:
        if self.global_rank == 0:
            print(line, file=sys.stderr)

    @property
    def _root_device(self) -> torch.device:
        return self.trainer.strategy.root_device

    def noise_key(self, index: int) -> NoiseKey:
        """Whose noise the votes of image `index` use."""
        identity = self.outputs.identity
        return NoiseKey(identity.seed, identity.command, identity.dataset, identity.split, index)

    def predict_dataloader(self) -> DataLoader[Loaded]:
        return DataLoader(Guarded(self.work.images), batch_size=None, sampler=Turns(self._shared))

    def transfer_batch_to_device(
        self, batch: Loaded, device: torch.device, dataloader_idx: int
    ) -> Loaded:
        return batch  # the engine adds the noise where it is made

    def on_predict_start(self) -> None:
        self._stop.install(self.trainer)
        self._ensure_fixed()
        self._engine = VoteEngine(
            self.smoothed.f,
            self.work.plan,
            noise_source(self.work.noise, self.device),
            self.work.in_flight,
        )

    def predict_step(self, batch: Loaded, batch_idx: int) -> None:
        if batch.sample is None:
            label = int(self.work.images.labels[batch.index])
            self._shared.report(0, [self._record(batch.index, label, "", None, batch.error, 0.0)])
        else:
            key = self.noise_key(batch.index)
            self._engine.submit(Task(batch.sample.image, key, batch.sample.label))
        while not self._engine.needs_task:
            self._advance()

    def on_predict_end(self) -> None:
        with self._engine:
            while not self._engine.is_idle:
                self._advance(last=True)

    def _advance(self, last: bool = False) -> None:
        before = self._engine.votes_cast
        finished = []
        through = self._engine.step()
        if last and self._engine.is_idle:
            check_unchanged(self.smoothed.f)  # before the last image is told, and the table written
        for one in through:
            task, error = one.task, one.error
            assert task.label is not None
            said = "" if error is None else f"{type(error).__name__}: {error}"
            digest, index = image_digest(task.image), task.key.image
            finished.append(
                self._record(index, task.label, digest, one.certificate, said, one.seconds)
            )
        self._shared.report(self._engine.votes_cast - before, finished)
        self._show_progress()
        self._exit_if_stopped()

    def _exit_if_stopped(self) -> None:
        """All ranks stop when one is told to: alone, the others could not finish the run."""
        if self._stop.requested and not self._shared.is_stopped:
            self._shared.stop()
        if self._shared.is_stopped:
            self._stop.exit(self.global_rank)

    def _record(
        self,
        index: int,
        label: int,
        digest: str,
        certificate: Certificate | None,
        error: str,
        seconds: float,
    ) -> ImageRecord:
        certificate = certificate or self.work.plan.nothing(self.smoothed.f.sigma)
        images, outputs = self.work.images, self.outputs
        origin = Origin(
            outputs.digest,
            outputs.identity.noise_source,
            digest,
            images.info.image_shape,
            images.file_name(index),
        )
        record = ImageRecord(index, label, seconds, certificate, error, origin)
        self._journal.append(record)
        self.records.append(record)
        self._failures = self._failures + 1 if error else 0
        if self._failures == FAILURES_IN_A_ROW:
            raise CertificationError(f"{self._failures} images in a row failed, the last: {error}")
        return record

    def _show_progress(self) -> None:
        if self._progress is not None and self._progress.is_due:
            self._progress.show(self._shared.totals())

    def gather(self) -> list[ImageRecord] | None:
        """All images' records on rank zero, None elsewhere. Every rank must call it.

        Raises:
            GatherError: see `gather_records`.
        """
        self._stop.install(self.trainer)  # Lightning has put back what was there before
        self._shared.flush()

        def wait() -> None:
            self._shared.report(0, [])
            self._show_progress()
            self._exit_if_stopped()

        records = gather_records(self.records, self.work.selection, wait)
        if self._progress is not None:
            self._progress.close(self._shared.totals())
        return records
