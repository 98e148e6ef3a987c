"""Two runs on the same images, and the best of several."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.bounds import check_alpha
from diffsmooth.stats.curves import certified_accuracy, certified_at
from diffsmooth.stats.results import Results

RESAMPLES = 2000
ROWS_A_BATCH = 50  # of resamples that are in memory at once


@dataclass(frozen=True)
class PairedDifference:
    """Certified accuracy of two runs on the same images, at one radius.

    Attributes:
        radius: l2, in [0, 1] pixel units.
        total: images.
        first_only, second_only: images that one run certifies correctly and the other does not.
        p_value: that of the exact two-sided McNemar test that neither run is better, for this
            radius alone (`holm` corrects several); 1 where no image tells them apart, NaN where a
            run does not measure this radius; never 0.
    """

    radius: float
    total: int
    first_only: int
    second_only: int
    p_value: float

    @property
    def difference(self) -> float:
        """Certified accuracy of the first run less that of the second."""
        return (self.first_only - self.second_only) / self.total


def paired_difference(first: Results, second: Results, radius: float) -> PairedDifference:
    """Compares two runs image by image, which needs fewer images than comparing their intervals.

    Args:
        first, second: results on the same images, at least one.
        radius: l2, in [0, 1] pixel units, >= 0.

    Raises:
        ValueError: other images, or none.

    Source: McNemar 1947; exact by the binomial distribution of the images that differ.
    """
    if not np.array_equal(first.index, second.index):
        raise ValueError("runs on different images cannot be paired")
    if not len(first):
        raise ValueError("no images: there is nothing to compare")
    radii = np.array([radius])
    measured = bool(first.measures(radii)[0] and second.measures(radii)[0])
    a, b = certified_at(first, radii)[0], certified_at(second, radii)[0]
    first_only, second_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    p_value = mcnemar(first_only, second_only) if measured else float("nan")
    return PairedDifference(radius, len(first), first_only, second_only, p_value)


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact p-value of two runs that differ on so many images, one way and the other; never 0.

    Twice the probability of at most the smaller count by fair coins, in whole numbers.
    """
    total, tail, ways = first_only + second_only, 0, 1
    for k in range(min(first_only, second_only) + 1):
        tail += ways
        ways = ways * (total - k) // (k + 1)
    return min(1.0, max(2 * tail / 2**total, sys.float_info.min))  # 0.0 would be none at all


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values corrected for their number, by Holm's method.

    Whichever of the null hypotheses are true, and however the tests depend on one another, one of
    the true ones gets at most a with probability at most a.

    Args:
        p_values: (T,), in [0, 1]; NaN where nothing was tested, which does not count.

    Returns:
        float64 (T,): of the k-th smallest of T, the largest of (T - j + 1) p_j over j <= k, at
        most 1; NaN stays.

    Raises:
        ValueError: a number that is no probability.

    Source: Holm 1979.
    """
    corrected = np.array(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(corrected))
    if not np.all((corrected[tested] >= 0) & (corrected[tested] <= 1)):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    order = tested[np.argsort(corrected[tested], kind="stable")]
    weights = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(weights * corrected[order]))
    return corrected


class Interval(NamedTuple):
    """Both ends."""

    low: float
    high: float


def average_radius_interval(results: Results, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the average certified radius, across images.

    Args:
        results: at least one image, drawn at random from the images of interest.
        level: confidence, in (0, 1).
        seed: seed of the resampling.

    Returns:
        NaN for one image, which tells nothing of others.

    Raises:
        ValueError: no images.

    Source: Efron 1979; `scipy.stats.bootstrap`.
    """
    from scipy.stats import bootstrap  # slow: not for help and mistakes

    check_alpha(1 - level)
    if not len(results):
        raise ValueError("no images: there is no average of nothing")
    radius = results.radius * results.correct
    if len(radius) == 1:
        return Interval(float("nan"), float("nan"))
    if np.ptp(radius) == 0.0:
        return Interval(float(radius[0]), float(radius[0]))
    found = bootstrap(
        (radius,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=ROWS_A_BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


@dataclass(frozen=True)
class Envelope:
    """The best of several runs at each radius.

    Attributes:
        radii: float64 (R,), l2, in [0, 1] pixel units.
        accuracy: float64 (R,), the highest certified accuracy; NaN where no run measures it.
        winner: int64 (R,), number of the (first) run that has it; -1 where no run measures it.
    """

    radii: np.ndarray
    accuracy: np.ndarray
    winner: np.ndarray


def upper_envelope(runs: Sequence[Results], radii: Sequence[float] | np.ndarray) -> Envelope:
    """The highest certified accuracy at each radius among runs, such as those of several sigmas.

    No smoothed classifier has it: each radius may have another winner. The winner is chosen on the
    images that it is reported for, which flatters a little.

    Args:
        runs: at least one, each with at least one image.
        radii: (R,), l2, in [0, 1] pixel units, >= 0.

    Raises:
        ValueError: no runs, or no images.
    """
    if not runs:
        raise ValueError("no runs: there is no best of nothing")
    radii = np.asarray(radii, dtype=np.float64)
    accuracy = np.stack([certified_accuracy(results, radii) for results in runs])  # (runs, R)
    known = ~np.isnan(accuracy)
    filled = np.where(known, accuracy, -1.0)
    measured = known.any(axis=0)
    return Envelope(
        radii,
        np.where(measured, filled.max(axis=0), np.nan),
        np.where(measured, filled.argmax(axis=0), -1),
    )
