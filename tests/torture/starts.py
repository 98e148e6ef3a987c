"""Starts of commands: forked from a process that has imported everything, or real ones."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
Whom = Literal["first", "all", "child"]
PATIENCE = 600.0  # seconds after which a start hangs, on a machine that is busy with others


@dataclass
class Ended:
    """How a start ended.

    Attributes:
        code: its exit code; minus the signal's number where that killed it.
        said: stderr and stdout.
        hung: whether it had to be killed.
    """

    code: int
    said: str
    hung: bool = False

    @property
    def aborted(self) -> bool:
        """Whether it is the C library, or the interpreter, that ended it."""
        return self.code in (-signal.SIGABRT, -signal.SIGSEGV) or self.said.endswith(": ABORT\n")

    @property
    def traceback(self) -> bool:
        """Whether Python's internals were shown, or C++'s last words."""
        return "Traceback" in self.said or "terminate called" in self.said or self.code in (-6, -11)


@dataclass
class Start:
    """A command's process, in a group of its own.

    Attributes:
        words: of the command line, from the command on.
        folder: the working directory; what it says goes into a file in it.
        env: added to the environment.
        before: called in the process first.
        real: by a new interpreter, which takes seconds to import.
        said: where that file lies, if not in the working directory.
    """

    words: list[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    real: bool = False
    said: Path | None = None

    def begin(self) -> "Start":
        """Forks."""
        self.begun = time.monotonic()
        self.log = (self.said or self.folder) / f"said-{time.monotonic_ns()}.txt"
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._become()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        return self

    def _become(self) -> None:
        os.setsid()
        os.chdir(self.folder)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(self.env)
        faulthandler.enable(2)
        command = self.words[0]
        script = str(REPOSITORY / f"{command}.py")
        if not Path(script).exists():
            script = str(REPOSITORY / "diffsmooth" / "cli" / "main.py")
        if self.real:
            self.before()
            entry = [sys.executable, "-m", "diffsmooth", *self.words]
            os.execv(sys.executable, entry)
        sys.argv = [script, *self.words[1:]]
        os._exit(_as_main(lambda: self._run(command)))

    def _run(self, command: str) -> None:
        from diffsmooth.cli.main import door

        self.before()
        door(command)

    def signal_after(self, seconds: float, number: int, whom: Whom) -> None:
        """Sends a signal then, if it is still at work."""
        while time.monotonic() - self.begun < seconds:
            if self._has_ended():
                return
            time.sleep(0.002)
        self.kill(number, whom)

    def kill(self, number: int, whom: Whom) -> None:
        """Sends a signal to the process, to all, as a terminal does, or to one that it started."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if self._has_ended():
                return
            if whom == "all":
                os.killpg(self.pid, number)
                return
            started = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            os.kill(int(started[0]) if started and whom == "child" else self.pid, number)

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, patience: float = PATIENCE) -> Ended:
        """Waits for the end, for so long."""
        until, hung = time.monotonic() + patience, False
        while not self._has_ended():
            if time.monotonic() > until:
                hung = True
                os.killpg(self.pid, signal.SIGABRT)  # says where each of its threads is
                time.sleep(1)
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.005)
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            until = (
                time.monotonic() + patience
            )  # ranks that have lost their parent end by themselves
            while time.monotonic() < until:
                os.killpg(self.pid, 0)
                time.sleep(0.05)
            hung = True
            os.killpg(self.pid, signal.SIGKILL)
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        return Ended(os.waitstatus_to_exitcode(status), said, hung)


def _as_main(function: Callable[[], None]) -> int:
    """Runs it as Python runs a script, to its end and with what is called then; the exit code."""
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    import atexit

    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code
