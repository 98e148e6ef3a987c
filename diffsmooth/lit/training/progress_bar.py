"""The progress bar of a training on a GPU."""

from typing import Any

import lightning.pytorch as pl

SELDOM = 50  # steps, where the trainer logs none


def read_every(trainer: pl.Trainer) -> int:
    """After how many steps a bar reads its numbers, for which it waits for the device."""
    return trainer.log_every_n_steps or SELDOM  # type: ignore[attr-defined]


def show_seldom(trainer: pl.Trainer) -> None:
    """Lets the bar read its numbers where the trainer logs, and at an epoch's end.

    Lightning's read them after each step, and wait for all work of the device each time.
    """
    bar = trainer.progress_bar_callback
    if bar is None or not type(bar).__module__.startswith("lightning."):
        return
    read, shown = type(bar).get_metrics, {}  # of the class: once, however often this is called
    every = read_every(trainer)

    def get_metrics(*args: Any) -> dict[str, Any]:
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if not trainer.training or batches.is_last_batch or batches.current.ready % every == 0:
            shown.update(read(bar, *args))
        return shown

    bar.get_metrics = get_metrics  # type: ignore[assignment, method-assign]
