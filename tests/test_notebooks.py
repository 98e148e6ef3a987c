"""The notebooks run from the first cell to the last, and show what they were committed with."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_executed_and_is_small(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(output.get("data", {}).get("image/png") for c in cells for output in c.outputs)
    assert not any(output.output_type == "error" for c in cells for output in c.outputs)
    assert path.stat().st_size < LARGEST
    assert "site-packages" not in path.read_text()  # the folders of who executed it


def words_of(notebook: Any) -> list[str]:
    """What the cells show as text, one line each, without numbers; nothing on standard error."""
    lines = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text = "" if output.get("name") == "stderr" else output.get("text", "")
            text += output.get("data", {}).get("text/plain", "")
            text = re.sub(r"[-+]?[0-9][0-9.,]*", "#", text)
            lines += [" ".join(line.split()) for line in text.splitlines()]
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's connections
        place = {"metadata": {"path": str(path.parent)}}
        stored = words_of(notebook)
        nbclient.NotebookClient(notebook, timeout=1200, resources=place).execute()
    # Numbers belong to the machine; the words around them are those of today's code.
    assert words_of(notebook) == stored, f"stale: python docs/notebooks/execute.py {path}"
