"""What a run ends with: as text for people, as a record for programs."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffsmooth.report.radii import default_radii
from diffsmooth.report.text import abstention_rate, remarks_on
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)


class Closing(NamedTuple):
    """What a finished run says.

    Attributes:
        text: its table, for people.
        record: the same for programs; numbers are not rounded, NaN and what is not known are None.
    """

    text: str
    record: Mapping[str, Any]

    def as_json(self) -> str:
        """The record as one JSON object, indented."""
        return json.dumps(_plain(self.record), indent=2)


def run_record(results: Results) -> dict[str, Any]:
    """Certified accuracy at the default radii with 95 % intervals, the averages, the remarks."""
    radii = default_radii(results)
    accuracy = certified_accuracy(results, radii)
    interval = certified_accuracy_interval(results, radii)
    curve = [
        {"radius": radius, "accuracy": value, "low": low, "high": high}
        for radius, value, (low, high) in zip(radii, accuracy, interval, strict=True)
    ]
    return {
        "images": len(results),
        "certified_accuracy": curve,
        "accuracy_is_lower_bound": bool(results.understates_accuracy),
        "average_certified_radius": average_certified_radius(results)
        if results.certifies
        else np.nan,
        "average_is_lower_bound": bool(results.understates),
        "largest_radius": results.max_radius,
        "abstained": abstention_rate(results),
        "failed": results.count("failed"),
        "plan": results.plan,
        "alpha": results.alpha,
        "noise": results.noise,
        "votes": None if results.votes is None else int(results.votes.sum()),
        "remarks": remarks_on(results),
    }


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
