"""Runs of results that no file holds."""

from pathlib import Path

import numpy as np

from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results


def named(name: str, results: Results) -> Run:
    """A run of a table that has no remarks."""
    return Run(name, Path(f"{name}.txt"), results, np.arange(2, 2 + len(results)))
