"""Certification as a LightningModule: images through an engine that fills its batches."""

from collections.abc import Sequence

import lightning.pytorch as pl

from diffsmooth.lit.certification.ranks import from_all_ranks, wait_for_all_ranks
from diffsmooth.lit.certification.shared_work import SharedWork
from diffsmooth.lit.data.images import ImageSet, image_digest
from diffsmooth.models.smoothing.engine import IN_FLIGHT, Task, VoteEngine
from diffsmooth.models.smoothing.fixed_function import FixedFunction, check_unchanged
from diffsmooth.models.smoothing.memory import OutOfMemory
from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource, Purpose
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import SourceName
from diffsmooth.stats import Certificate, ImageRecord, Plan
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin

FAILURES_IN_A_ROW = 10  # then it is not the images
UNCHECKED = 100  # batches, of which one more checks f: 1 % of the time, and what a crash can lose


class CertificationCallback(pl.Callback):
    """A callback that is told of images once they count, each on the rank that certified it.

    Lightning's hooks tell of images as they go in; they come out later and in another order, the
    last ones after the last batch (so that a `BasePredictionWriter` would miss them). All of all
    ranks are out when `on_predict_end` is called.
    """

    def on_image_finished(
        self, trainer: pl.Trainer, module: "CertificationModule", record: ImageRecord
    ) -> None:
        """An image has its certificate, or the error that it raised."""

    def on_votes(self, trainer: pl.Trainer, module: "CertificationModule") -> None:
        """Some votes were cast, or the other ranks are waited for; may raise to end the run."""


class CertificationModule(pl.LightningModule):
    """Runs a plan on images::

        trainer = pl.Trainer(logger=False, callbacks=[Preparation(), Progress()])
        trainer.predict(module, return_predictions=False)
        module.records

    Several images are in flight at once, so that every forward pass is full. Each is told to the
    trainer's `CertificationCallback`s at the moment when it is finished. An image that raises gets
    a record, too.

    Args:
        f: what votes, such as a smoothed classifier's.
        plan: how many votes to ask for, and what to conclude.
        selection: indices of the images to do; None for all.
        purpose, split, seed: name the noise, together with the dataset and the image's index.
        noise: where it comes from.
        in_flight: images at once, at most, on each rank. It does not change any result.

    Attributes:
        records: the images that this rank has finished, and f was found unchanged afterwards.
            What stands there before the start is done, on any rank, and is not done again; what
            has failed is.
        digest: short name of the run, which the records bear.
        fixed: what was found of f, if it was checked before the start.
        shared: what the ranks share while they work; from `setup` on.
    """

    def __init__(
        self,
        f: VoteFunction,
        plan: Plan,
        images: ImageSet,
        selection: Sequence[int] | None = None,
        purpose: Purpose = "certify",
        split: str = "test",
        seed: int = 0,
        noise: SourceName = "float",
        in_flight: int = IN_FLIGHT,
    ) -> None:
        super().__init__()
        self.f = f
        self.plan = plan
        self.images = images
        self.selection = list(range(len(images)) if selection is None else selection)
        self.purpose, self.split, self.seed, self.noise = purpose, split, seed, noise
        self.records: list[ImageRecord] = []
        self.digest = ""
        self.fixed: FixedFunction | None = None
        self.shared: SharedWork
        self._in_flight = in_flight
        self._failures = 0
        self._unchecked: list[ImageRecord] = []
        self._batches = 0  # since f was last checked

    def noise_key(self, index: int) -> NoiseKey:
        """Whose noise the votes of image `index` use."""
        return NoiseKey(self.seed, self.purpose, self.images.info.name, self.split, index)

    def setup(self, stage: str) -> None:
        self.records = [record for record in self.records if not record.error]
        self._unchecked, self._batches, self._failures = [], 0, 0
        done = set().union(*from_all_ranks({record.index for record in self.records}))
        pending = [index for index in self.selection if index not in done]
        environment = getattr(self.trainer.strategy, "cluster_environment", None)
        address = "localhost" if environment is None else environment.main_address
        self.shared = SharedWork(pending, address)

    def predict_dataloader(self) -> SharedWork:
        return self.shared

    def on_predict_start(self) -> None:
        self._source = self.make_source()
        self._engine = VoteEngine(self.f, self.plan, self._source, self._in_flight)

    def make_source(self) -> NoiseSource:
        """Where the votes' noise comes from."""
        return noise_source(self.noise, self.device)

    def predict_step(self, batch: int, batch_idx: int) -> int:
        """Takes in the image of an index, which it returns; votes until there is room for more."""
        try:
            sample = self.images[batch]
        except OutOfMemory:  # of images that are computed: the fault of none
            raise
        except Exception as error:  # one must not end the run
            self.report(0, [self._record(batch, error)])
        else:
            self._engine.submit(Task(sample.image, self.noise_key(batch), self.images.label(batch)))
        while not self._engine.needs_task:
            self._step()
        return batch

    # Not at `on_predict_end`, which callbacks get first.
    def on_predict_epoch_end(self) -> None:
        """Finishes the images that are still in flight, and waits for the other ranks.

        Lightning would not: rank zero would end, and the others' queue with it.
        """
        with self._engine:
            while not self._engine.is_idle:
                self._step()
        self.confirm()
        self.shared.flush()
        wait_for_all_ranks(self.report)

    def _step(self) -> None:
        before = self._engine.votes_cast
        through = self._engine.step()
        self._batches += 1
        finished = []
        for one in through:
            digest, index = image_digest(one.task.image), one.task.key.image
            finished.append(self._record(index, one.error, digest, one.certificate, one.seconds))
        self.report(self._engine.votes_cast - before, finished)
        if self._batches >= UNCHECKED and self._unchecked:
            self.confirm()

    def _record(
        self,
        index: int,
        error: Exception | None,
        digest: str = "",
        certificate: Certificate | None = None,
        seconds: float = 0.0,
    ) -> ImageRecord:
        images, label = self.images, self.images.label(index)
        certificate = certificate or self.plan.nothing(self.f.sigma)
        shape, file = images.info.image_shape, images.file_name(index)
        origin = Origin(self.digest, self._source.name, digest, shape, file)
        said = "" if error is None else f"{type(error).__name__}: {error}"
        return ImageRecord(index, label, seconds, certificate, said, origin)

    def report(self, votes: int = 0, finished: Sequence[ImageRecord] = ()) -> None:
        """Tells the other ranks what this one has done, and keeps what is finished for `confirm`.

        Raises:
            UserError: many images in a row failed.
            LostRank: rank zero is gone.
        """
        for record in finished:
            self._unchecked.append(record)
            self._failures = self._failures + 1 if record.error else 0
            if self._failures == FAILURES_IN_A_ROW:
                raise UserError(
                    f"{self._failures} images in a row failed, the last: {record.error}"
                )
        self.shared.report(votes, finished)
        for callback in self._listeners:
            callback.on_votes(self.trainer, self)

    def confirm(self) -> None:
        """Lets the images that are finished count, since f has not changed under their votes.

        Raises:
            UserError: it has; they never count, at no later start either.
        """
        if any(not record.error for record in self._unchecked):
            check_unchanged(self.f)
        self._batches = 0
        while self._unchecked:
            record = self._unchecked[0]
            for callback in self._listeners:
                callback.on_image_finished(self.trainer, self, record)
            self.records.append(self._unchecked.pop(0))

    @property
    def _listeners(self) -> list[CertificationCallback]:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in callbacks if isinstance(callback, CertificationCallback)]
