"""What is printed of a run at its end."""

import numpy as np

from diffsmooth.report.radii import default_radii
from diffsmooth.report.text import (
    abstained_text,
    average_text,
    number_text,
    radius_text,
    remarks_on,
)
from diffsmooth.stats import Results, certified_accuracy, certified_accuracy_interval


def summary_text(results: Results) -> str:
    """Certified accuracy with 95 % intervals at the default radii, and the run's averages."""
    radii = default_radii(results)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    lines = ["radius   certified accuracy   95 % interval"]
    lines += [
        f"{radius_text(radius):>6}   {number_text(value):>18}"
        + ("" if np.isnan(value) else f"   {low:.3f} .. {high:.3f}")
        for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
    ]
    largest = f" (largest possible {results.max_radius:.3f})" if results.max_radius else ""
    lines.append(
        f"average certified radius {average_text(results)}{largest}, "
        f"abstained {abstained_text(results)}, {len(results)} images"
    )
    if results.plan is not None and results.votes is not None:
        votes = results.votes.mean()
        lines.append(f"plan {results.plan}, {votes:.0f} votes an image on average")
    return "\n".join(lines + remarks_on(results))
