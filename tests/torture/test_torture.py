"""A round of one torture of each kind; `make torture` takes all of them, for ten minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

KINDS = [
    "signals, certify", "full disk, train", "read-only disk, certify", "clock jumps, certify",
    "two starts", "files change", "loaders die", "NaN", "little memory, certify",
    "mutated journals", "mutated checkpoints",
]  # fmt: skip


@pytest.mark.slow
def test_a_round_of_tortures_finds_no_fault() -> None:
    words = [sys.executable, str(Path(__file__).with_name("campaign.py")), "--minutes", "0"]
    words += ["--only", *KINDS]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all |" in done.stdout
