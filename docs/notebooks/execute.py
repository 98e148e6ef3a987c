"""Executes notebooks, and keeps what came out but for the times: python execute.py NOTEBOOK ..."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

for path in map(Path, sys.argv[1:]):
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, record_timing=False, resources=place).execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version
    nbformat.write(notebook, path)
