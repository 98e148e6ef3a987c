"""Progress of certification: a bar over images and one over the votes of the current image."""

import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from diffsmooth.lit.certification import CertificationModule

QUIET_INTERVAL = 30.0  # seconds between lines where the output is not a terminal


class CertificationProgress(ProgressBar):
    """Two bars with rates and remaining times, on rank zero, for its share of the images."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_predict_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, CertificationModule)
        if not self._enabled or trainer.global_rank != 0:
            return
        terminal = sys.stderr.isatty()
        share = f" of rank 0 (of {trainer.world_size})" if trainer.world_size > 1 else ""
        interval = 0.1 if terminal else QUIET_INTERVAL
        self._images = tqdm(
            total=len(module.pending),
            desc=f"images{share}",
            unit="image",
            mininterval=interval,
            maxinterval=max(interval, 10.0),
            dynamic_ncols=True,
        )
        self._votes = tqdm(
            total=module.plan.max_votes,
            desc="votes of this image",
            unit="vote",
            leave=False,
            disable=not terminal,
            dynamic_ncols=True,
        )
        module.on_votes = self._count_votes

    def _count_votes(self, votes: int) -> None:
        self._votes.update(votes)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(module, CertificationModule)
        if not self._enabled or trainer.global_rank != 0:
            return
        correct = sum(record.correct for record in module.records) / len(module.records)
        mean = sum(r.certificate.radius for r in module.records if r.correct) / len(module.records)
        self._images.set_postfix_str(f"accuracy {correct:.3f}, radius {mean:.3f}", refresh=False)
        self._images.update()
        self._votes.reset()

    def on_predict_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._enabled and trainer.global_rank == 0:
            self._votes.close()
            self._images.close()
