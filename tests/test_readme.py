"""The README's Python does what it says, on the shipped networks and images."""

import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

REPOSITORY = Path(__file__).parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    b for b in FENCED.findall((REPOSITORY / "README.md").read_text()) if "import diffsmooth" in b
]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("checkpoints", "diffsmooth"):
        os.symlink(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    backend = plt.get_backend()
    plt.switch_backend("Agg")
    names: dict[str, object] = {}
    exec(block, names)
    plt.close("all")
    plt.switch_backend(backend)
    if "savefig" in block:
        assert list(tmp_path.glob("*.png"))
