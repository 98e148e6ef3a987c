"""Numbers and classes as text where there is little room."""

from collections.abc import Sequence

import numpy as np

from diffsmooth.models.classifiers.dataset_info import get_dataset_info
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN
from diffsmooth.stats.printed import digits_up, radius_label


def short_radius(radius: float) -> str:
    """Two to four decimals, rounded down."""
    return radius_label(radius, most=4)


def radius_labels(radii: Sequence[float] | np.ndarray) -> list[str]:
    """Radii that something is measured at: four decimals at most, or as many as tell them apart."""
    short = [short_radius(radius) for radius in radii]
    return short if len(set(short)) == len(short) else [radius_label(radius) for radius in radii]


def short_number(value: float) -> str:
    """A cost: three significant digits, or all that stand before the point, rounded up."""
    return digits_up(value, 3)


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


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
