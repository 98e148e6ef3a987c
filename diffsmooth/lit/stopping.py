"""How a run ends before its end: by Ctrl-C, by SIGTERM, and never without its parent.

Standard library only: `cli/main.py` listens to signals before anything slow is imported.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

FAILED, USER_ERROR = 1, 2  # exit codes: of a bug or of images that failed, of a mistake
TRY_AGAIN = 75  # sysexits.h: a temporary failure
INTERRUPTED = 130  # 128 + SIGINT, as shells expect
PARENT = "DIFFSMOOTH_PARENT"  # environment variable: the process that Lightning starts ranks from
WATCH_SECONDS = 1.0
SPEAK_SECONDS = 10.0  # by which ranks may be apart while they load
RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # of torchrun, of SLURM, of Lightning


class Stopped(SystemExit):
    """A signal has ended the work; `code` is the exit code."""


_raised: Stopped | None = None  # by the last signal
_alone = False  # whether nobody else says what is wrong


def listen() -> None:
    """From now on, Ctrl-C and SIGTERM raise `Stopped`; the second one kills.

    A signal that the one who started us wants ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(signal_number: int, frame: FrameType | None) -> None:
        # Not SIG_DFL: of a second one that is here already Python would print that it is lost.
        signal.signal(signal.SIGINT, _kill)
        signal.signal(signal.SIGTERM, _kill)
        global _raised
        _raised = Stopped(INTERRUPTED if signal_number == signal.SIGINT else TRY_AGAIN)
        raise _raised

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def _kill(signal_number: int, frame: FrameType | None) -> None:
    signal.signal(signal_number, signal.SIG_DFL)
    signal.raise_signal(signal_number)


@contextmanager
def stoppable(command: str, again: str) -> Iterator[None]:
    """Ctrl-C or SIGTERM within ends the process by one line.

    Args:
        command: as it is said before the line.
        again: how to go on.
    """
    global _raised
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _raised = None
    listen()
    try:
        yield
    except (Stopped, KeyboardInterrupt, Exception) as error:
        # A library in C may have made another exception of ours (matplotlib's makes ValueErrors).
        stopped = _raised if isinstance(error, Exception) else error
        if stopped is None:
            raise
        # A second signal kills, whatever Python is at.
        before = dict.fromkeys(before, signal.SIG_DFL)
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        if process_rank() == 0:  # the line is said once
            print(f"\n{command}: stopped; {again}", file=sys.stderr)
        raise SystemExit(getattr(stopped, "code", INTERRUPTED)) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def process_rank() -> int:
    """This process's rank by what its launcher says, 0 where there is none."""
    said = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "0")
    return int(said) if said.isdigit() else 0


def speak_at_once() -> None:
    """This process alone knows what is wrong, and the others end without a word."""
    global _alone
    _alone = True


def wait_to_speak() -> None:
    """Gives rank zero, and then the others in their order, the time to say what is wrong.

    Most mistakes are seen by all ranks alike, and are to be said once: a process whose launcher or
    parent ends meanwhile ends with it, without a word.
    """
    rank = process_rank()
    if rank and not _alone:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SPEAK_SECONDS + min(rank, 30))


def is_started_by_us(variables: Mapping[str, str]) -> bool:
    """Whether a process of ours may have started this one, by the environment's variables."""
    return variables.get(PARENT, str(os.getpid())) != str(os.getpid())


def end_with_parent(launched: bool) -> None:
    """Ends this process when the one that started it is gone, wherever it waits.

    A rank whose parent was killed would wait for rank zero at the rendezvous for days, or work on
    beside the run that goes on in its place. Call it in every process, before ranks are started.

    Args:
        launched: whether torchrun or SLURM started the ranks; otherwise Lightning starts them from
            the first one, if nobody else has.
    """
    ours = is_started_by_us(os.environ)
    if launched or ("LOCAL_RANK" in os.environ and not ours):
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
