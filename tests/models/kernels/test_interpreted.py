"""Our kernels without a GPU: the tests in interpreted_*.py, in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
FILES = sorted(Path(__file__).parent.glob("interpreted_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_in_the_interpreter(path: Path) -> None:
    """Triton asks for the variable as it is imported, so that it takes a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-header", str(path)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
