"""Out of memory is one line, whoever meets it: what comes after it, too, finds the room to end."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffsmooth.cli import certify, errors
from diffsmooth.cli.main import run
from diffsmooth.models.smoothing.memory import is_out_of_memory

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import resource
import torch._dynamo  # prints at the end of the process, for which it imports

from diffsmooth.cli.errors import user_errors

with user_errors("certify.py"):
    pages = int(open("/proc/self/statm").read().split()[0])
    most = pages * resource.getpagesize() + 2**27
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    hoard = []
    for size in (2**22, 2**16, 2**10):
        try:
            while True:
                hoard.append(bytearray(size))
        except MemoryError:
            if size == 2**10:
                raise
"""


# What libraries raise who look into what they have caught: jsonargparse, into the text of it.
LATER = PROGRAM.replace("                raise\n", "                [][0]\n")

# A command that has told of it itself.
TOLD = (
    PROGRAM.replace('with user_errors("certify.py"):', "def told(words, prog):")
    .replace("                raise\n", "                fail(prog, 'no room')\n")
    .replace("import user_errors", "import fail")
    .replace("    hoard = []", "    global hoard; hoard = []")
)
TOLD += """
import sys
import types

from diffsmooth.cli.main import run

sys.modules["diffsmooth.cli.certify"] = types.SimpleNamespace(main=told)
run("certify", [], "certify.py")
"""


# A library that does something at the end of the process.
LAST_WORDS = PROGRAM.replace(
    "import resource\n",
    "import atexit, resource, sys\n"
    "atexit.register(lambda: print('Traceback of a library', file=sys.stderr))\n"
    "print('a line of before')\n",
)


def test_libraries_do_nothing_any_more_where_there_is_no_memory() -> None:
    """Seen once in fifty: an interpreter that the lack of memory had broken."""
    words = [sys.executable, "-c", LAST_WORDS]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("certify.py: error: out of memory: ")
    assert (done.returncode, done.stdout) == (2, "a line of before\n")


def test_room_is_given_back_where_a_command_ends_by_itself() -> None:
    words = [sys.executable, "-c", TOLD]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr == "certify.py: error: no room\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("program", "said"), [(PROGRAM, "MemoryError"), (LATER, "list index out of range")]
)
def test_the_end_of_a_process_without_memory_is_one_line(program: str, said: str) -> None:
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert line == f"certify.py: error: out of memory: a smaller --batch may help ({said})"
    assert done.returncode == 2


@pytest.mark.parametrize(
    "error",
    [
        ImportError("/x/_backend_agg.so: failed to map segment from shared object"),
        ImportError("/x/y.so: cannot allocate memory in static TLS block"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_what_libraries_say_for_it(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not_taken_for_it() -> None:
    for error in (ImportError("no module x"), OSError(28, "No space"), RuntimeError("thread")):
        assert not is_out_of_memory(error)


def test_figures_and_events_are_not_begun_without_room(
    tmp_path: Path, classifier_file: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A thread of TensorBoard's that memory failed turned for ever, and the process waited."""
    words = [
        "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / "o.txt"),
        "--purifier", "none", "--m", "1", "--sigma_local", "0", "--n0", "4", "--n", "10",
        "--skip", "500", "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu",
        "--no_sanity_check",
    ]  # fmt: skip
    with monkeypatch.context() as scarce:
        scarce.setattr(errors, "has_room", lambda size=0: size != errors.FOR_FIGURES)
        with pytest.raises(SystemExit) as end:
            certify.main(words)
    assert end.value.code == 2
    said = capsys.readouterr()
    line = said.err.strip().splitlines()[-1]
    assert line.startswith("certify.py: error: out of memory: a smaller --batch may help (")
    assert "certified accuracy" not in said.out
    assert not (tmp_path / "logs").exists()
    rows = (tmp_path / "o.txt").read_text()
    certify.main(words)  # the votes are not lost
    assert (tmp_path / "o.txt").read_text() == rows
    assert (tmp_path / "o.png").exists()


def test_memory_that_fails_as_it_is_told_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The handlers of a command failed, too, each with a MemoryError of its own."""

    def fails(words: list[str], prog: str) -> None:
        raise MemoryError

    monkeypatch.setattr(certify, "main", fails)
    with pytest.raises(SystemExit) as end:
        run("certify", [], "certify.py")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("certify.py: error: out of memory: a smaller --batch may help (")
