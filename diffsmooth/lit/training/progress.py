"""Progress of a training on one line: epoch, images a second, what is measured, time left."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from diffsmooth.lit.training.progress_bar import read_every

SHOW_SECONDS = 1.0


class TrainingProgress(ProgressBar):
    """A line an epoch; on a terminal a bar, too, while it runs. At most 80 columns.

    Metrics are read where the trainer logs, and at an epoch's end: to read them waits for all work
    of the device. Steps, rate and time left are shown each second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_on = True
        self._bar: tqdm | None = None
        self._images = 0  # of this rank, since `_since`
        self._since = 0.0
        self._shown = 0.0
        self._read: list[str] = []  # metrics, as they were last

    def disable(self) -> None:
        """Shows nothing from now on; Lightning calls it on all ranks but the first."""
        self._is_on = False

    def enable(self) -> None:
        """Shows again."""
        self._is_on = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._images, self._since = 0, time.monotonic()
        self._first_step = trainer.global_step
        self._read = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(f"epoch {self._epoch(trainer)}", int(self.total_train_batches), trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Sequence[Any],
        batch_idx: int,
    ) -> None:
        self._images += len(batch[0])
        if self._bar is None:
            return
        now = time.monotonic()
        is_read = (batch_idx + 1) % read_every(trainer) == 0
        if is_read:
            self._read = self._metrics(trainer, pl_module, "train/")
        if is_read or now - self._shown >= SHOW_SECONDS:
            rate = self._images * trainer.world_size / max(now - self._since, 1e-9)
            said = [*self._read, f"{rate:,.0f} images/s", *self._left(trainer)]
            self._bar.n, self._shown = batch_idx + 1, now
            self._bar.set_description_str("; ".join(said), refresh=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_on:
            return
        self._close()
        loss, measured = (self._metrics(trainer, pl_module, of) for of in ("train/", "val/"))
        said = "; ".join([*loss[:1], *measured, *self._left(trainer)])
        print(f"epoch {self._epoch(trainer)}: {said}", file=sys.stderr, flush=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if _evaluates(trainer):
            self._open("validate", int(sum(trainer.num_val_batches)), trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open("test", int(sum(trainer.num_test_batches)), trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if _evaluates(trainer) and self._bar is not None:
            self._bar.update()

    def on_test_batch_end(self, *args: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if _evaluates(trainer):
            self._close()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, *args: Any) -> None:
        self._close()

    def _open(self, what: str, batches: int, trainer: pl.Trainer) -> None:
        if not self._is_on or not trainer.is_global_zero or not sys.stderr.isatty():
            return
        self._close()
        self._bar = tqdm(
            total=batches,
            bar_format=f"{what} |{{bar}}| {{n_fmt}}/{{total_fmt}} {{desc}}",
            dynamic_ncols=True,
            leave=False,
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _metrics(self, trainer: pl.Trainer, module: pl.LightningModule, of: str) -> list[str]:
        """What the module wants in bars, of the training's steps or of validation."""
        return [
            f"{name.removeprefix('train/')} {float(value):.3f}"
            for name, value in self.get_metrics(trainer, module).items()
            if isinstance(value, int | float) and name.startswith(of)
        ]

    def _left(self, trainer: pl.Trainer) -> list[str]:
        """The time left, where the number of steps is known."""
        total = trainer.estimated_stepping_batches
        steps = trainer.global_step - self._first_step
        if not steps or not 0 <= total < float("inf"):
            return []
        each = (time.monotonic() - self._since) / steps
        left = max(int(total) - trainer.global_step, 0) * each
        return [f"ETA {tqdm.format_interval(left)}"]

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        most = trainer.max_epochs
        return f"{trainer.current_epoch + 1}" + ("" if most in (None, -1) else f"/{most}")


def _evaluates(trainer: pl.Trainer) -> bool:
    """Whether validation is all that is done, and no part of a training."""
    return trainer.state.fn == "validate"
