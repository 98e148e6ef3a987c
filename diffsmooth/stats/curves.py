"""Certified accuracy against radius, and the average certified radius."""

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np

from diffsmooth.stats.bounds import check_alpha
from diffsmooth.stats.printed import EXACT, decimal
from diffsmooth.stats.results import Results


def certified_accuracy(results: Results, radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Share of images that are predicted correctly and certified at each radius.

    Args:
        results: at least one image.
        radii: (R,), l2, in [0, 1] pixel units, >= 0.

    Returns:
        float64 (R,) in [0, 1]; NaN where not measured, see `Results.measures`.

    Raises:
        ValueError: no images.

    Source: Cohen et al. 2019, section 4.
    """
    radii = np.asarray(radii, dtype=np.float64)
    accuracy = certified_at(results, radii).sum(axis=1) / _count(results)
    return np.where(results.measures(radii), accuracy, math.nan)


def certified_accuracy_interval(
    results: Results, radii: Sequence[float] | np.ndarray, level: float = 0.95
) -> np.ndarray:
    """Two-sided Clopper-Pearson intervals of the certified accuracy, across images.

    Args:
        results: at least one image, drawn at random from the images of interest.
        radii: (R,), as for `certified_accuracy`.
        level: confidence, in (0, 1).

    Returns:
        float64 (R, 2), lower and upper; NaN where the accuracy is.
    """
    check_alpha(1 - level)
    total = _count(results)
    radii = np.asarray(radii, dtype=np.float64)
    measured = results.measures(radii)[:, None]
    hits = certified_at(results, radii).sum(axis=1)
    return np.where(measured, share_interval(hits, total, level), math.nan)


def share_interval(hits: np.ndarray, total: int, level: float = 0.95) -> np.ndarray:
    """Two-sided Clopper-Pearson intervals of shares: int64 (R,) of `total` to float64 (R, 2)."""
    from scipy.special import betaincinv  # slow: not for help and mistakes

    misses, tail = total - hits, (1 - level) / 2
    low = np.where(hits == 0, 0.0, betaincinv(np.maximum(hits, 1), misses + 1, tail))
    high = np.where(misses == 0, 1.0, betaincinv(hits + 1, np.maximum(misses, 1), 1 - tail))
    return np.stack([low, high], axis=1)


def average_certified_radius(results: Results) -> float:
    """Mean over images of the radius, 0 where the prediction is wrong or abstained.

    Returns:
        l2, in [0, 1] pixel units, rounded down, not by the way. Where `results.understates`, of a
        plan that stopped early, it is below what all votes would have given.

    Raises:
        ValueError: no images.

    Source: Zhai et al. 2020 (MACER), section 3.1.
    """
    total, radii = _count(results), results.radius[results.correct].tolist()
    with localcontext(EXACT):
        mean = sum(map(decimal, radii), Decimal()) / total
    average = float(mean)
    return average if decimal(average) <= mean else math.nextafter(average, 0.0)


def high_probability_accuracy(
    results: Results, radii: Sequence[float] | np.ndarray, alpha: float, rho: float
) -> np.ndarray:
    """Bound of the certified accuracy that accounts for the certificates that may be wrong.

    Args:
        results: at least one image.
        radii: (R,), as for `certified_accuracy`.
        alpha: failure probability of each certificate, in (0, 1).
        rho: probability that the returned bound (at one radius) does not hold, in (0, 1).

    Returns:
        float64 (R,): the certified accuracy less alpha + sqrt(2 v log(1/rho) / M) + log(1/rho) /
        (3 M), over M images; v = alpha (1 - alpha), the largest variance of a coin that is wrong
        with probability up to alpha (1/4 for alpha > 1/2).

    Raises:
        ValueError: no images, or alpha or rho out of range.

    Source: Cohen et al. 2019, appendix D, theorem 6, by Bernstein's inequality (for alpha <= 1/2).
    There it is divided by 1 - alpha as well, which this leaves out: 0.1 % of it at alpha 0.001.
    Their published code (code/analyze.py of locuslab/smoothing) leaves out that, and the 2 under
    the root, and so overstates a little.
    """
    check_alpha(alpha)
    if not 0 < rho < 1:
        raise ValueError(f"rho must be in (0, 1), got {rho}")
    total = _count(results)
    log_rho = math.log(1 / rho)
    variance = alpha * (1 - alpha) if alpha < 0.5 else 0.25
    spread = math.sqrt(2 * variance * log_rho / total)
    return certified_accuracy(results, radii) - alpha - spread - log_rho / (3 * total)


def certified_at(results: Results, radii: np.ndarray) -> np.ndarray:
    """Whether each of M images is predicted correctly and certified at each radius: bool (R, M)."""
    return results.correct & (results.radius >= radii[:, None])


def _count(results: Results) -> int:
    if not len(results):
        raise ValueError("no images: there is no accuracy of nothing")
    return len(results)
