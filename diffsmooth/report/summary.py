"""What is printed of a run at its end."""

import numpy as np

from diffsmooth.report.radii import default_radii
from diffsmooth.report.text import (
    abstained_text,
    accuracy_text,
    average_text,
    interval_text,
    remarks_on,
)
from diffsmooth.shown_text import shown
from diffsmooth.stats import Results, certified_accuracy, certified_accuracy_interval
from diffsmooth.stats.printed import radius_label, rounded_down, rounded_up


def summary_text(results: Results) -> str:
    """Certified accuracy with 95 % intervals at the default radii, and the run's averages."""
    radii = default_radii(results)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    lines = ["radius   certified accuracy   95 % interval"]
    lines += [
        f"{radius_label(radius):>6}   {accuracy_text(results, value):>18}"
        + ("" if np.isnan(value) else f"   {interval_text(low, high, between=' .. ')}")
        for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
    ]
    largest = (
        f" (largest possible {rounded_down(results.max_radius)})" if results.max_radius else ""
    )
    lines.append(
        f"average certified radius {average_text(results)}{largest}, "
        f"abstained {abstained_text(results)}, {len(results)} images"
    )
    if results.plan is not None and results.votes is not None:
        votes = rounded_up(results.votes.mean(), 0)
        lines.append(f"plan {shown(results.plan)}, {votes} votes an image on average")
    return "\n".join(lines + remarks_on(results))
