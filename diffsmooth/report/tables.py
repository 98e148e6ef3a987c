"""The closing table of a run, and tables that compare runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from diffsmooth.stats import (
    ABSTAIN,
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)
from diffsmooth.stats.bounds import floor_decimals


def default_radii(results: Results) -> np.ndarray:
    """The grid, or multiples of 0.25 up to the largest possible or certified radius.

    Returns:
        float64 (R,), l2, in [0, 1] pixel units.
    """
    if results.grid:
        return np.array(results.grid)
    top = results.max_radius
    if top is None:
        top = float(results.radius.max(initial=0.0))
    return np.arange(0.0, top + 1e-9, 0.25)


def common_radii(runs: Mapping[str, Results]) -> np.ndarray:
    """The default radii of all runs, ascending: float64 (R,), l2, in [0, 1] pixel units."""
    radii = np.concatenate([default_radii(results) for results in runs.values()])
    return np.unique(radii.round(9))


def summary_text(results: Results) -> str:
    """Certified accuracy with 95 % intervals at the default radii, and the run's averages."""
    radii = default_radii(results)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    lines = ["radius   certified accuracy   95 % interval"]
    lines += [
        f"{_radius(radius):>6}   {'n/a' if np.isnan(value) else f'{value:.3f}':>18}"
        + ("" if np.isnan(value) else f"   {low:.3f} .. {high:.3f}")
        for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
    ]
    largest = f" (largest possible {results.max_radius:.3f})" if results.max_radius else ""
    lines.append(
        f"average certified radius {_average(results)}{largest}, "
        f"abstained {_abstained(results)}, {len(results)} images"
    )
    return "\n".join(lines + _remarks(results))


def comparison_table(runs: Mapping[str, Results], radii: Sequence[float]) -> pd.DataFrame:
    """One row a run: certified accuracy with its 95 % interval at each radius, as text.

    The average certified radius (ACR) of a plan that stops early is given only beside runs of the
    same grid: elsewhere it would compare the plans.

    Args:
        runs: results by the run's name.
        radii: l2, in [0, 1] pixel units.
    """
    alike = len({(results.grid, results.tolerance) for results in runs.values()}) == 1
    rows = {}
    for name, results in runs.items():
        accuracy = certified_accuracy(results, radii)
        interval = certified_accuracy_interval(results, radii)
        cells = {
            _radius(radius): "n/a" if np.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
        }
        average = _average(results) if alike or not results.understates else "n/a"
        rows[name] = cells | {"ACR": average}
    return pd.DataFrame.from_dict(rows, orient="index")


def comparison_remarks(runs: Mapping[str, Results]) -> list[str]:
    """What a reader of the comparison must know, one line each; none for runs of fixed plans."""
    grids = ", ".join(name for name, results in runs.items() if results.grid)
    tolerant = ", ".join(name for name, results in runs.items() if results.tolerance is not None)
    remarks = []
    if grids:
        remarks.append(
            f"{grids}: decided at the radii of a grid only, so n/a elsewhere; ACR is a lower "
            "bound, n/a beside other plans"
        )
    if tolerant:
        remarks.append(
            f"{tolerant}: stopped within a tolerance of the radius, so all numbers are lower "
            "bounds; ACR is n/a beside other plans"
        )
    return remarks


def _remarks(results: Results) -> list[str]:
    remarks = []
    if results.plan is not None and results.votes is not None and len(results):
        remarks.append(f"plan {results.plan}, {results.votes.mean():.0f} votes an image on average")
    if results.grid:
        remarks.append(
            "only these radii were decided: between them, and in the average radius, more votes "
            "could certify more"
        )
    if results.tolerance is not None:
        remarks.append(
            f"votes stopped within {100 * results.tolerance:g} % of the radius that all of them "
            "were predicted to give: the numbers are lower bounds"
        )
    if skipped := results.count("skipped"):
        remarks.append(f"skipped {skipped} images whose selected class is not the label")
    if failed := results.count("failed"):
        remarks.append(f"failed {failed} images, which count as not certified; see the journal")
    return remarks


def _average(results: Results) -> str:
    average = average_certified_radius(results)
    return f">= {floor_decimals(average, 3):.3f}" if results.understates else f"{average:.3f}"


def _abstained(results: Results) -> str:
    if results.count("skipped"):
        return "n/a: label-aware"
    failed = results.count("failed")
    return f"{(np.sum(results.prediction == ABSTAIN) - failed) / len(results):.3f}"


def _radius(radius: float) -> str:
    """Two decimals, or as many as it takes to tell the grid's radii apart."""
    text = f"{radius:.2f}"
    return text if abs(float(text) - radius) < 1e-9 else f"{radius:.9g}"
