"""The certification predict loop: one image a step, sharded over the ranks."""

import json
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from diffsmooth.lit.data.images import Batch, ImageSet, Sample
from diffsmooth.lit.gather import gather_records, share_done, shared_identity
from diffsmooth.lit.identity import RunIdentity
from diffsmooth.lit.journal import JournalWriter
from diffsmooth.lit.outputs import OutputError, Outputs
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
        identity: of the run.
        outputs: its files, prepared by rank zero.
    """

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        plan: Plan,
        images: ImageSet,
        selection: list[int],
        identity: RunIdentity,
        outputs: Outputs,
    ) -> None:
        super().__init__()
        # There may be fewer images than ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.smoothed = smoothed
        self.plan = plan
        self.images = images
        self.selection = selection
        self.identity = identity
        self.outputs = outputs
        self.records: list[ImageRecord] = []
        self.pending: list[int] = []
        self.on_votes: Callable[[int], None] | None = None
        self.stop_requested = False

    def setup(self, stage: str) -> None:
        theirs = json.loads(shared_identity(self.identity.to_json()))
        difference = self.identity.difference(theirs)
        if difference:
            raise OutputError(f"rank {self.global_rank} differs from rank 0: {difference}")
        selected = set(self.selection)
        self.records = [r for r in self.outputs.read_records() if r.index in selected]
        done = share_done({record.index for record in self.records})
        pending = [index for index in self.selection if index not in done]
        self.pending = pending[self.global_rank :: self.trainer.world_size]
        self.outputs.parts.mkdir(parents=True, exist_ok=True)
        self._journal = JournalWriter(self.outputs.part(self.global_rank))

    def noise_key(self, index: int) -> NoiseKey:
        """Whose noise the votes of image `index` use."""
        identity = self.identity
        return NoiseKey(identity.seed, identity.command, identity.dataset, identity.split, index)

    def predict_dataloader(self) -> DataLoader[Sample]:
        return DataLoader(self.images, batch_size=1, sampler=self.pending)

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        index, label = int(batch.original_index), int(batch.label)
        key = self.noise_key(index)
        start = time.perf_counter()
        certificate = self.smoothed.run_plan(batch.image[0], key, self.plan, label, self.on_votes)
        record = ImageRecord(index, label, time.perf_counter() - start, certificate)
        self._journal.append(record)
        self.records.append(record)

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, _: int = 0) -> None:
        if self.stop_requested:
            raise SystemExit(75)  # sysexits.h: a temporary failure, try again

    def gather(self) -> list[ImageRecord] | None:
        """All images' records on rank zero, None elsewhere. Every rank must call it."""
        return gather_records(self.records, self.selection)
