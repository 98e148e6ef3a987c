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


def default_radii(results: Results) -> np.ndarray:
    """Multiples of 0.25 (l2, [0, 1] pixel units) up to the largest possible or certified."""
    top = results.max_radius
    if top is None:
        top = float(results.radius.max(initial=0.0))
    return np.arange(0.0, top + 1e-9, 0.25)


def summary_text(results: Results) -> str:
    """Certified accuracy with 95 % intervals at the default radii, and the run's averages."""
    radii = default_radii(results)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    lines = ["radius   certified accuracy   95 % interval"]
    lines += [
        f"{radius:6.2f}   {value:18.3f}   {low:.3f} .. {high:.3f}"
        for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
    ]
    abstained = float(np.mean(results.prediction == ABSTAIN))
    largest = f" (largest possible {results.max_radius:.3f})" if results.max_radius else ""
    lines.append(
        f"average certified radius {average_certified_radius(results):.3f}{largest}, "
        f"abstained {abstained:.3f}, {len(results)} images"
    )
    return "\n".join(lines)


def comparison_table(runs: Mapping[str, Results], radii: Sequence[float]) -> pd.DataFrame:
    """One row a run: certified accuracy with its 95 % interval at each radius, as text.

    Args:
        runs: results by the run's name.
        radii: l2, in [0, 1] pixel units.
    """
    rows = {}
    for name, results in runs.items():
        accuracy = certified_accuracy(results, radii)
        interval = certified_accuracy_interval(results, radii)
        cells = {
            f"{radius:.2f}": "n/a" if np.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
        }
        rows[name] = cells | {"ACR": f"{average_certified_radius(results):.3f}"}
    return pd.DataFrame.from_dict(rows, orient="index")
