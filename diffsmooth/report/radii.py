"""At which radii runs are shown."""

from collections.abc import Sequence

import numpy as np

from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results

STEP, TOP = 0.25, 1.5  # of the radii that the field's tables have for images of 32 x 32
LARGE_STEP, LARGE_TOP = 0.5, 3.0  # and for ImageNet
LARGE_CLASSES = 100  # above which an unknown dataset counts as such a one
SAME = 1e-9  # radii that differ by no more are one, see `Results.measures`
MOST_STEPS = 160  # of a curve


def usual_radii(runs: Sequence[Run]) -> np.ndarray:
    """The radii of the field's tables for such images, and the runs' own grids.

    Beyond the largest radius that a run of another plan could give, or has, there are none.

    Returns:
        float64 (R,), ascending, l2, in [0, 1] pixel units.
    """
    classes = max(int(run.results.label.max()) + 1 for run in runs)
    large = any(run.dataset == "imagenet" for run in runs) or classes > LARGE_CLASSES
    step, top = (LARGE_STEP, LARGE_TOP) if large else (STEP, TOP)
    largest = max((top_radius(run.results) for run in runs if not run.results.grid), default=-1.0)
    usual = np.arange(0.0, min(top, largest) + SAME, step)
    return distinct(np.concatenate([usual, *(run.results.grid for run in runs)]))


def distinct(radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Radii >= 0, ascending; of those that differ by no more than SAME the smallest.

    It is measured where the others are.
    """
    ordered = np.unique(np.asarray(radii, dtype=np.float64))
    kept: list[float] = []
    for radius in ordered.tolist():
        if not kept or radius - kept[-1] > SAME:
            kept.append(radius)
    return np.array(kept)


def curve_radii(results: Sequence[Results], radii: Sequence[float] | np.ndarray = ()) -> np.ndarray:
    """Where curves are computed: even steps, and each radius that a plan or a table names.

    Args:
        results: of the runs that share an axis, at least one.
        radii: the table's.

    Returns:
        float64 (R,), ascending, from 0 to the largest `top_radius`, or to 1 where that is 0.
    """
    from matplotlib.ticker import MaxNLocator  # slow: not for help and mistakes

    right = max(map(top_radius, results)) or 1.0
    steps = MaxNLocator(MOST_STEPS, steps=[1, 2, 5, 10]).tick_values(0.0, right)
    # 57 * 0.01 is above 0.57, and an image that is certified at 0.57 would be left out there.
    even = np.round(steps, 12)
    points = np.concatenate([even, radii, *([*one.grid, top_radius(one)] for one in results)])
    return distinct(points[(points >= 0.0) & (points <= right)])


def default_radii(results: Results) -> np.ndarray:
    """The grid, or multiples of 0.25 up to the largest possible or certified radius.

    Returns:
        float64 (R,), l2, in [0, 1] pixel units.
    """
    return np.array(results.grid or np.arange(0.0, top_radius(results) + SAME, STEP))


def top_radius(results: Results) -> float:
    """The grid's last, or the largest that the plan could give, or else that an image has."""
    if results.grid:
        return results.grid[-1]
    if results.max_radius is not None:
        return results.max_radius
    return float(results.radius.max(initial=0.0))
