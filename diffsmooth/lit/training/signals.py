"""Signals in a training: ours, not Lightning's."""

import signal
import threading

import lightning.pytorch as pl


class KeepSignals(pl.Callback):
    """Puts the handlers of Ctrl-C and SIGTERM back that stood before Lightning set its own.

    Lightning's of SIGTERM ends with exit code 0 as if all were done, and with several devices waits
    for the others inside the handler, where they may wait for this one. There is nothing to wait
    for: checkpoints are whole at every moment.
    """

    def __init__(self) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.getsignal(number) for number in numbers}

    def _put_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    # The first that are called after Lightning has set its handlers.
    on_sanity_check_start = _put_back
    on_train_start = _put_back
    on_validation_start = _put_back
    on_test_start = _put_back
