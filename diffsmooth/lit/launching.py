"""Ranks that a process starts itself: as Lightning does, but their ends are told apart."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from diffsmooth.lit.stopping import TRY_AGAIN

POLL_SECONDS = 0.2
GRACE_SECONDS = 2.0  # for rank zero to say itself what happened
EXIT_SECONDS = 10.0  # by which a process whose connection is closed has ended


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks of this host, and ends rank zero when one of them is lost.

    Lightning's kills everything by SIGKILL then: nothing is said, and the exit code (137) tells
    batch scripts that the memory was full. Ctrl-C reaches rank zero only: it ends the others.
    """

    command = ""
    """As it is said before what is said of a lost rank."""
    again = "the same command goes on"

    def launch(
        self, function: Callable, *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any
    ) -> Any:
        """Starts the ranks, then calls the function with the arguments."""
        self.cluster_environment.validate_settings(self.num_processes, self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            # What a process ignores, those that it starts ignore, from their first moment on.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                self._call_children_scripts()
            finally:
                signal.signal(signal.SIGINT, before)
            threading.Thread(
                target=self._watch, args=(list(self.procs),), name="rank watch", daemon=True
            ).start()
        return function(*args, **kwargs)

    def release(self) -> None:
        """From now on, the others may end as they will."""
        self.procs = []

    def end(self) -> None:
        """Ends the others at once; what they have finished is on disk."""
        self.kill(signal.SIGKILL)
        self.release()

    def told(self) -> int | None:
        """The exit code of a rank that has said itself what was wrong, as the run's is to be.

        For rank zero, when it has lost the connection to a rank.
        """
        until = time.monotonic() + EXIT_SECONDS
        while all(process.poll() is None for process in self.procs) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        codes = (process.poll() for process in self.procs)
        return next((code for code in codes if code and code > 0 and code != TRY_AGAIN), None)

    def _watch(self, started: list[subprocess.Popen]) -> None:
        while not (lost := [p for p in started if p.poll()]):
            if all(process.returncode == 0 for process in started):
                return
            time.sleep(POLL_SECONDS)
        time.sleep(GRACE_SECONDS)
        if not self.procs:  # it was said, or nothing was lost
            return
        code = lost[0].returncode
        if code < 0 or code == TRY_AGAIN:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended early"
            code = TRY_AGAIN
            print(
                f"{self.command}: error: the process of rank {1 + started.index(lost[0])} {how}; "
                f"{self.again}",
                file=sys.stderr,
                flush=True,
            )
        # Otherwise it has said itself what was wrong. Rank zero may wait where no signal or
        # exception reaches it.
        self.kill(signal.SIGKILL)
        os._exit(code)


class RankStrategy(DDPStrategy):
    """DDP whose ranks are started by our launcher."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
