"""Memory that gives out, and signals that come, in a library's callback: nothing can be raised."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from diffsmooth.cli.main import end_in_callback
from diffsmooth.lit.stopping import Stopped

sys.unraisablehook = end_in_callback

@ctypes.CFUNCTYPE(None)
def callback():
    raise {error}

callback()
print("went on")
"""


@pytest.mark.parametrize(
    ("error", "code", "out", "first", "lines"),
    [
        ("MemoryError", 2, "", "diffsmooth: error: out of memory: a smaller --batch may help", 1),
        ("Stopped(75)", 75, "", "diffsmooth: stopped", 1),
        ("KeyError(1)", 0, "went on\n", "Exception ignored", 4),
    ],
)
def test_memory_and_signals_end_the_process_and_bugs_keep_their_traceback(
    error: str, code: int, out: str, first: str, lines: int
) -> None:
    words = [sys.executable, "-c", PROGRAM.format(error=error)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.startswith(first)
    assert len(done.stderr.splitlines()) >= lines
    assert ("Traceback" in done.stderr) == (code == 0)
