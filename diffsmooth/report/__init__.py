"""Floor 2: from results to tables, figures and TensorBoard."""

from diffsmooth.runs.reading import read_results

__all__ = ["read_results"]
