"""The certification predict loop: one image a step, sharded over the ranks."""

import json
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from diffsmooth.lit.data.images import Batch, ImageSet, Sample
from diffsmooth.lit.gather import from_all_ranks, gather_records
from diffsmooth.lit.journal import JournalWriter
from diffsmooth.lit.outputs import OutputError, Outputs, RunContext
from diffsmooth.lit.stopping import StopOnSigterm
from diffsmooth.models.noise import NoiseKey
from diffsmooth.models.smoothed_classifier import SmoothedClassifier
from diffsmooth.stats import ImageRecord, Plan


class CertificationModule(pl.LightningModule):
    """Runs a plan on each selected image: `trainer.predict(module, return_predictions=False)`.

    Every image goes to the journal when it is done, and the images that a journal already holds are
    left out, so that running the same command again goes on where it stopped.

    Args:
        smoothed: the smoothed classifier.
        plan: how many votes to ask for, and what to conclude.
        images: the dataset.
        selection: indices of the images to do.
        outputs: the run's files; rank zero claims them.
        context: goes into the manifest.
        overwrite: whether the files of a different run may be replaced.
        check: run by rank zero before anything is written; raises ValueError to stop the run.
    """

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        plan: Plan,
        images: ImageSet,
        selection: list[int],
        outputs: Outputs,
        context: RunContext,
        overwrite: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        # There may be fewer images than ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.smoothed = smoothed
        self.plan = plan
        self.images = images
        self.selection = selection
        self.outputs = outputs
        self.records: list[ImageRecord] = []
        self.pending: list[int] = []
        self.on_votes: Callable[[int], None] | None = None
        self._context = context
        self._overwrite = overwrite
        self._check = check
        self._stop = StopOnSigterm()

    def setup(self, stage: str) -> None:
        # Here, and not before: Lightning sets the threads of its own accord when it launches.
        torch.set_num_threads(self.outputs.identity.threads)
        self._agree()
        selected = set(self.selection)
        self.records = [r for r in self.outputs.read_records() if r.index in selected]
        done = set().union(*from_all_ranks({record.index for record in self.records}))
        pending = [index for index in self.selection if index not in done]
        self.pending = pending[self.global_rank :: self.trainer.world_size]
        self._journal = JournalWriter(self.outputs.new_part(self.global_rank))

    def _agree(self) -> None:
        """Rank zero claims the files; all ranks must be the same run, or all fail alike."""
        problem = ""
        if self.global_rank == 0:
            try:
                self._check()
                self.outputs.claim(self._context, self._overwrite)
            except ValueError as error:
                problem = str(error)
        said = from_all_ranks((problem, self.outputs.identity.to_json()))
        if said[0][0]:
            raise OutputError(said[0][0])
        for rank, (_, identity) in enumerate(said):
            if identity != said[0][1]:
                difference = self.outputs.identity.difference(json.loads(identity))
                raise OutputError(f"rank {rank} is not the same run as rank 0: {difference}")

    def noise_key(self, index: int) -> NoiseKey:
        """Whose noise the votes of image `index` use."""
        identity = self.outputs.identity
        return NoiseKey(identity.seed, identity.command, identity.dataset, identity.split, index)

    def predict_dataloader(self) -> DataLoader[Sample]:
        return DataLoader(self.images, batch_size=1, sampler=self.pending)

    def on_predict_start(self) -> None:
        self._stop.install(self.trainer)

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        index, label = int(batch.original_index), int(batch.label)
        key = self.noise_key(index)
        start = time.perf_counter()
        certificate = self.smoothed.run_plan(batch.image[0], key, self.plan, label, self.on_votes)
        record = ImageRecord(index, label, time.perf_counter() - start, certificate)
        self._journal.append(record)
        self.records.append(record)

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, _: int = 0) -> None:
        self._stop.exit_if_requested(self.global_rank)

    def gather(self) -> list[ImageRecord] | None:
        """All images' records on rank zero, None elsewhere. Every rank must call it.

        Raises:
            GatherError: see `gather_records`.
        """
        self._stop.install(self.trainer)  # Lightning has put back what was there before
        return gather_records(
            self.records,
            self.selection,
            while_waiting=lambda: self._stop.exit_if_requested(self.global_rank),
        )
