"""The command on a GPU: killed and resumed, by two ranks on one card, and out of memory."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_device import ACCELERATOR, ON_CPU, needs_cuda

from diffsmooth.runs.journal import read_journal
from diffsmooth.stats import Certificate

pytestmark = pytest.mark.gpu
REPOSITORY = Path(__file__).parents[2]
PATIENCE = 600.0 if ON_CPU else 100.0
SIZE = (
    ["--N", "30", "--batch", "16", "--skip", "50"]
    if ON_CPU
    else ["--N", "3000", "--batch", "256", "--skip", "20"]
)


@pytest.fixture(scope="module")
def words(classifier_file: Path, unet_file: Path) -> list[str]:
    """A small certification, but for its outfile."""
    return [
        "--dataset", "fashion_mnist_sample", "--classifier", str(classifier_file), "--sigma", "0.5",
        "--local_noise_sd", "0.25", "--m", "2", "--N0", "8", "--diffusion", str(unet_file),
        "--accelerator", ACCELERATOR, "--threads", "1", "--no_sanity_check", *SIZE,
    ]  # fmt: skip


def start(
    words: list[str], out: Path, *more: str, before: str = "", **env: str
) -> "subprocess.Popen[str]":
    """Begins a certification in a process group of its own."""
    words = [*words, "--outfile", str(out), "--logdir", str(out.parent / "logs"), *more]
    program = f"{before}\nfrom diffsmooth.cli.certify import main; main()"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=out.parent,
        env=os.environ | {"PYTHONPATH": path} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ends(process: "subprocess.Popen[str]") -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, errors


def finishes(process: "subprocess.Popen[str]") -> None:
    code, errors = ends(process)
    assert code == 0, errors


def rows(out: Path) -> list[list[str]]:
    """The table's cells without the time."""
    return [line.split("\t")[:5] for line in out.read_text().splitlines()]


def certificates(out: Path) -> list[Certificate]:
    return [record.certificate for record in read_journal(out.with_suffix(".jsonl")).records]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "o.txt"
    finishes(start(words, out))
    return out


def test_a_killed_run_goes_on_to_the_same_table(
    words: list[str], whole: Path, tmp_path: Path
) -> None:
    process, parts = start(words, tmp_path / "o.txt"), tmp_path / "o.parts"
    deadline = time.monotonic() + PATIENCE
    while sum(path.read_bytes().count(b"\n") for path in parts.glob("*.jsonl")) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, ends(process)
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    ends(process)
    assert not (tmp_path / "o.txt").exists()
    finishes(start(words, tmp_path / "o.txt"))
    assert rows(tmp_path / "o.txt") == rows(whole)
    assert certificates(tmp_path / "o.txt") == certificates(whole)


def test_two_ranks_on_one_card_give_the_table_of_one(
    words: list[str], whole: Path, tmp_path: Path
) -> None:
    """By gloo, each as the only process of a host of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    both = [
        start(
            words, tmp_path / "o.txt", "--num_nodes", "2", MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port, NODE_RANK=str(rank),
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in both:
            finishes(process)
    finally:
        for process in both:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert rows(tmp_path / "o.txt") == rows(whole)
    assert certificates(tmp_path / "o.txt") == certificates(whole)


@needs_cuda
def test_out_of_memory_is_one_line_that_names_the_batch(words: list[str], tmp_path: Path) -> None:
    """In a process that may have a hundredth of the card, so that others keep theirs."""
    before = "import torch; torch.cuda.set_per_process_memory_fraction(0.01)"
    more = ("--batch", "100000", "--N", "200000")
    code, errors = ends(start(words, tmp_path / "o.txt", *more, before=before))
    assert code == 2, errors
    assert "Traceback" not in errors
    said = [line for line in errors.splitlines() if "error:" in line]
    assert len(said) == 1, errors
    assert "out of memory" in said[0]
    assert "--batch" in said[0]
    assert not (tmp_path / "o.txt").exists()
