"""How a run ends before its end: by SIGTERM after a batch, and never without its parent."""

import os
import signal
import threading
import time
from types import FrameType
from typing import NoReturn

import lightning.pytorch as pl

TRY_AGAIN = 75  # sysexits.h: a temporary failure
PARENT = "DIFFSMOOTH_PARENT"  # environment variable: the process that Lightning starts ranks from
WATCH_SECONDS = 1.0


def end_with_parent(launched: bool) -> None:
    """Ends this process when the one that started it is gone, wherever it waits.

    A rank whose parent was killed would wait for rank zero at the rendezvous for days, or work on
    beside the run that goes on in its place. Call it in every process, before ranks are started.

    Args:
        launched: whether torchrun or SLURM started the ranks; otherwise Lightning starts them from
            the first one, if nobody else has.
    """
    if launched or ("LOCAL_RANK" in os.environ and PARENT not in os.environ):
        parent = os.getppid()
    elif "LOCAL_RANK" in os.environ:
        parent = int(os.environ[PARENT])  # it may be gone already
    else:
        os.environ[PARENT] = str(os.getpid())
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(TRY_AGAIN)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


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

    def exit(self, rank: int) -> NoReturn:
        """Raises SystemExit: TRY_AGAIN on rank zero. The others end with 0, since a launcher that
        sees one fail kills rank zero before it has said a word."""
        raise SystemExit(TRY_AGAIN if rank == 0 else os.EX_OK)
