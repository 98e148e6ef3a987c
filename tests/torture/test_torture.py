"""A round of each torture; `make torture` goes on for ten minutes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_round_of_each_torture_finds_no_fault() -> None:
    words = [sys.executable, str(Path(__file__).with_name("campaign.py")), "--minutes", "0"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all |" in done.stdout
