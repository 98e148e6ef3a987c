"""How commands end by signals, and many processes by what befalls one of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffsmooth.lit.stopping import stoppable

REPOSITORY = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, classifier_file: Path) -> Start:
    """Starts `certify.py` in a process group of its own, as a terminal does."""

    def call(*words: str, script: tuple[str, ...] = ("certify.py",)) -> "subprocess.Popen[str]":
        line = [
            "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / "o.txt"),
            "--purifier", "none", "--m", "1", "--local_noise_sd", "0", "--N", "30", "--batch", "16",
            "--max", "1", "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu",
            "--threads", "1", "--no_sanity_check", *words,
        ]  # fmt: skip
        return subprocess.Popen(
            [sys.executable, *script, *line],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return call


def wait_for_votes(process: "subprocess.Popen[str]") -> None:
    assert process.stderr is not None
    while "votes/s" not in (line := process.stderr.readline()):
        assert line, "it ended before its time"


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The ranks that it has started; libraries start short-lived others while they load."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in found if b"LOCAL_RANK=" in environment(child)]


def environment(child: str) -> bytes:
    try:
        return Path(f"/proc/{child}/environ").read_bytes()
    except OSError:  # it has ended
        return b""


def ends(process: "subprocess.Popen[str]", code: int) -> list[str]:
    """The lines on stderr, but for Lightning's, of a process that ends with a code."""
    _, errors = process.communicate(timeout=100)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return [
        line
        for line in errors.splitlines()
        if line and not line.startswith(("Initializing distributed", "images "))
    ]


LONG_WORK = ("--N", "100000000")
STOPPED = "certify.py: stopped; the same command goes on from here"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_ctrl_c_while_loading_is_one_line(start: Start, seconds: float) -> None:
    process = start(*LONG_WORK)
    while processor_seconds(process.pid) < seconds:  # not of the clock: others may keep it waiting
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert ends(process, 130) == [STOPPED]


def processor_seconds(pid: int) -> float:
    """What a process has had of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["Ctrl-C", "SIGTERM"]
)
def test_two_processes_stop_by_one_line(start: Start, number: int, code: int) -> None:
    process = start(*LONG_WORK, "--devices", "2")
    wait_for_votes(process)
    (child,) = children(process)
    os.killpg(process.pid, number)
    assert ends(process, code) == [STOPPED]
    while Path(f"/proc/{child}").exists():
        time.sleep(0.1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_the_second_signal_kills(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as stopped, stoppable("it", "once more"):
            signal.raise_signal(number)
        assert stopped.value.code == code
        assert capsys.readouterr().err == "\nit: stopped; once more\n"
        assert {signal.getsignal(number) for number in before} == {signal.SIG_DFL}
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in a shell's background
        with stoppable("it", "once more"):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_library_that_makes_another_exception_of_a_signals_does_not_hide_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def draw() -> None:
        """As matplotlib's C++, where a signal strikes it as it reads a bounding box."""
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise ValueError("Invalid bounding box") from None

    try:
        with pytest.raises(SystemExit) as stopped, stoppable("it", "once more"):
            draw()
        assert stopped.value.code == 75
        assert capsys.readouterr().err == "\nit: stopped; once more\n"
        with pytest.raises(ValueError, match="of its own"), stoppable("it", "once more"):
            raise ValueError("of its own")  # a bug, long after the signal
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_a_process_that_is_killed_before_it_joins_ends_the_run_with_75(start: Start) -> None:
    process = start("--devices", "2")
    while not children(process):
        time.sleep(0.02)
    os.kill(children(process)[0], signal.SIGKILL)
    (line,) = ends(process, 75)
    assert line == (
        "certify.py: error: the process of rank 1 was killed by SIGKILL; the same command goes on"
    )


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_waits_for_the_others_ends_the_run_with_75(
    start: Start,
) -> None:
    process = start(*LONG_WORK, "--devices", "2")  # one image: rank one is done at once
    wait_for_votes(process)
    os.kill(children(process)[0], signal.SIGKILL)
    (line,) = ends(process, 75)
    assert line.endswith("; the same command goes on")


FAULT = """
import os, sys
from diffsmooth.cli.main import run
from diffsmooth.lit.certification import CertificationModule
from diffsmooth.stats.errors import UserError

def fail(module):
    raise {error}

if os.environ.get("LOCAL_RANK") == "1":
    CertificationModule.on_predict_epoch_end = fail  # in the loop, while rank zero is at work
run("certify", sys.argv[1:], "certify.py")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"), [("UserError('no such thing')", 2), ("ValueError('shapes')", 1)]
)
def test_what_ends_one_process_only_decides_how_the_run_ends(
    start: Start, tmp_path: Path, error: str, code: int
) -> None:
    script = tmp_path / "fault.py"
    script.write_text(FAULT.format(error=error))
    process = start("--devices", "2", script=(str(script),))
    _, said = process.communicate(timeout=100)
    assert process.returncode == code, said
    assert "goes on" not in said  # the same command would fail again
    assert said.count("Traceback") == (code == 1)
    assert said.count("certify.py: error: no such thing") == (code == 2)


@pytest.mark.slow
def test_a_mistake_that_two_processes_see_is_said_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "o.txt").write_text("of another program")
    (line,) = ends(start("--devices", "2"), 2)
    assert "o.txt exists and is not of a run of ours" in line


@pytest.mark.slow
def test_slurms_variables_without_srun_are_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    (line,) = ends(start("--devices", "2"), 2)
    assert "srun did not start this one: put srun before the command" in line


@pytest.mark.parametrize("command", [pytest.param("bench", marks=pytest.mark.slow), "forecast"])
def test_ctrl_c_elsewhere_says_that_it_begins_anew(command: str) -> None:
    pilot = "docs/studies/fashion_mnist/diffsmooth.jsonl"
    words = {
        "bench": ["--workloads", "full", "--sections", "speed", "--accelerator", "cpu"],
        "forecast": [pilot, "--rate", "100", "--images", "1000000"],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "diffsmooth.cli.main", command, *words[command]],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    assert ends(process, 130) == [f"diffsmooth {command}: stopped; the same command begins anew"]


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(redirected: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m diffsmooth.cli.main forecast {tmp_path}/no.jsonl {redirected}"
    code = subprocess.call(["sh", "-c", line], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    assert code == 2  # the mistake's, not that of a traceback


@pytest.mark.parametrize("word", ["", "--version", "certify --help"])
def test_a_reader_that_has_seen_enough_is_no_bug(word: str) -> None:
    line = f"{sys.executable} -m diffsmooth.cli.main {word} | true"
    done = subprocess.run(["sh", "-c", line], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr == ""


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    line = f"cd {tmp_path} && rmdir {tmp_path} && {sys.executable} {REPOSITORY}/certify.py x"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("certify.py: error: the working directory is gone")
