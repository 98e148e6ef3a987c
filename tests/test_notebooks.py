"""The notebooks run from the first cell to the last, and show what they were committed with."""

import warnings
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's connections
        place = {"metadata": {"path": str(path.parent)}}
        nbclient.NotebookClient(notebook, timeout=1200, resources=place).execute()
