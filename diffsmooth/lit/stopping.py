"""SIGTERM: finish the current image, then end, so that the same command can go on."""

import os
import signal
from types import FrameType

import lightning.pytorch as pl

TRY_AGAIN = 75  # sysexits.h: a temporary failure


class StopOnSigterm:
    """A flag that SIGTERM sets.

    Replaces Lightning's handler, which in prediction either swallows the signal or waits for the
    other ranks inside the handler.
    """

    def __init__(self) -> None:
        self.requested = False

    def install(self, trainer: pl.Trainer) -> None:
        """Installs the handler; rank zero passes the signal on to the processes it started."""

        def handle(signal_number: int, frame: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if launcher is not None and not self.requested:
                launcher.kill(signal.SIGTERM)
            self.requested = True

        signal.signal(signal.SIGTERM, handle)

    def exit_if_requested(self, rank: int) -> None:
        """Raises SystemExit: TRY_AGAIN on rank zero. The others end with 0, since a launcher that
        sees one fail kills rank zero in the middle of its image."""
        if self.requested:
            raise SystemExit(TRY_AGAIN if rank == 0 else os.EX_OK)
