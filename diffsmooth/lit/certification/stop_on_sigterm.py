"""SIGTERM ends all ranks between two batches."""

import os
import signal
from types import FrameType

import lightning.pytorch as pl

from diffsmooth.lit.certification.module import CertificationCallback, CertificationModule
from diffsmooth.lit.stopping import TRY_AGAIN, Stopped


class StopOnSigterm(CertificationCallback):
    """Ends all ranks by `Stopped` when one gets SIGTERM: alone, the others could not finish.

    Replaces Lightning's handler, which in prediction either swallows the signal or waits for the
    other ranks inside the handler. In the main thread only.
    """

    _is_requested = False

    # The first that is called after Lightning has set its own, which it takes back at the end.
    def on_predict_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        def handle(signal_number: int, frame: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if launcher is not None and not self._is_requested:
                launcher.kill(signal.SIGTERM)  # to the processes that rank zero started
            self._is_requested = True

        signal.signal(signal.SIGTERM, handle)

    def on_votes(self, trainer: pl.Trainer, module: CertificationModule) -> None:
        if self._is_requested and not module.shared.is_stopped:
            module.shared.stop()
        if module.shared.is_stopped:
            # The others end with 0: a launcher that sees one fail kills rank zero before it has
            # said a word.
            raise Stopped(TRY_AGAIN if trainer.is_global_zero else os.EX_OK)
