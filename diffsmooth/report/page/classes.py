"""The names of a run's classes."""

import numpy as np

from diffsmooth.models.classifiers.dataset_info import get_dataset_info
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN


def class_names(run: Run) -> dict[int, str]:
    """Names by number, ascending: all of a known dataset, else the numbers that are seen."""
    seen = np.unique(np.concatenate([run.results.label, run.results.prediction]))
    seen = seen[seen != ABSTAIN]
    try:
        known = get_dataset_info(run.dataset.removesuffix("_sample")).class_names
    except ValueError:  # a dataset of the user's own
        known = ()
    if seen.min() < 0 or seen.max() >= len(known):
        return {int(number): str(number) for number in seen}
    return dict(enumerate(known))
