"""An axis of a chart: where a value lies, and its ticks."""

from typing import NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

WIDE = 20.0


class Tick(NamedTuple):
    """A mark of an axis: its place in percent of the axis, and its text."""

    place: float
    text: str


class Axis(NamedTuple):
    """From `low` to `high` > low; where `log`, low > 0."""

    low: float
    high: float
    log: bool = False

    def places(self, values: np.ndarray) -> np.ndarray:
        """Percent of the axis: float64 (N,) to (N,) with three decimals."""
        values, low, high = np.asarray(values, dtype=np.float64), self.low, self.high
        if self.log:
            values, low, high = np.log(values), np.log(low), np.log(high)
        return (100 * (values - low) / (high - low)).round(3)

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round values, ascending, about as many as `most`."""
        steps = [1, 2, 2.5, 5, 10]
        locator = LogLocator(subs=(1.0, 2.0, 5.0)) if self.log else MaxNLocator(most, steps=steps)
        values = np.asarray(locator.tick_values(self.low, self.high))
        values = values[(values >= self.low) & (values <= self.high)]
        if self.log and len(values) > most + 2:  # no room for more than the decades
            values = values[np.isclose(np.log10(values) % 1, 0)]
        return [
            Tick(float(place), f"{value:.6g}")
            for place, value in zip(self.places(values), values, strict=True)
        ]


def fitting_axis(values: np.ndarray, may_be_log: bool) -> Axis:
    """The axis of a histogram, logarithmic where the values span more than a factor WIDE.

    Args:
        values: float64 (N,), >= 0.
        may_be_log: or linear in any case.
    """
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=0.0))
    if may_be_log and low > 0 and low * WIDE < high:
        return Axis(low, high, log=True)
    return Axis(0.0, high * 1.02 or 1.0)
