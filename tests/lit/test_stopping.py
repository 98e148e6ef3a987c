"""A rank never outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from diffsmooth.lit.stopping import PARENT, TRY_AGAIN

RANK = """
import sys, time
from diffsmooth.lit.stopping import end_with_parent
end_with_parent(launched=sys.argv[1] == "launched")
print("at work", flush=True)
time.sleep(120)
"""
LAUNCHER = """
import subprocess, sys, time
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
print(rank.pid, flush=True)
time.sleep(120)
"""


def test_a_rank_whose_parent_was_gone_before_it_began_ends_at_once() -> None:
    environment = os.environ | {"LOCAL_RANK": "1", PARENT: str(os.getppid())}
    done = subprocess.run([sys.executable, "-c", RANK, ""], env=environment, timeout=60)
    assert done.returncode == TRY_AGAIN


@pytest.mark.parametrize("kind", ["launched", "by Lightning"])
def test_a_rank_ends_with_its_parent(kind: str) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, RANK, kind],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ({} if kind == "launched" else {"LOCAL_RANK": "1"}) | {PARENT: "0"},
    )
    assert launcher.stdout is not None
    rank = int(launcher.stdout.readline())
    if kind == "launched":
        assert launcher.stdout.readline() == "at work\n"
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    deadline = time.monotonic() + 60
    while _is_running(rank):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


BOTH = """
import os, signal, sys
from diffsmooth.lit.stopping import stoppable

both = {signal.SIGINT, signal.SIGTERM}
with stoppable("it", "once more"):
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)  # Python hears of them in one moment
    for _ in range(1000):
        pass
"""


def test_two_signals_in_one_moment_kill_without_a_word_of_pythons() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM
    assert "Traceback" not in done.stderr
