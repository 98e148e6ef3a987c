"""A sweep over settings of the local smoothing: which is best, and which cannot be told from it."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from diffsmooth.models.sweep import Setting
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
    paired_difference,
)
from diffsmooth.stats.printed import digits_up, exact, rounded_down, rounded_up

LEVEL = 0.05  # of the test against the best setting


class SweepRow(NamedTuple):
    """A setting and how it did.

    Attributes:
        setting: sigma_local and m.
        accuracy: certified accuracy at the sweep's radius.
        low, high: its 95 % interval.
        average_radius: average certified radius, l2, in [0, 1] pixel units.
        p_value: exact McNemar test of its certified accuracy beside the best setting's; 1.0 of the
            best itself.
    """

    setting: Setting
    accuracy: float
    low: float
    high: float
    average_radius: float
    p_value: float


class SweepOutcome(NamedTuple):
    """A whole sweep.

    Attributes:
        rows: by sigma_local, then m.
        best: the one of them that is to be taken.
        radius: at which they are judged, l2, in [0, 1] pixel units.
        sigma: noise level of the votes, [0, 1] pixel units.
        trained: noise level that the classifier was trained at (sigma'), None where not known.
        images: number of images.
    """

    rows: tuple[SweepRow, ...]
    best: SweepRow
    radius: float
    sigma: float
    trained: float | None
    images: int

    @property
    def alike(self) -> list[SweepRow]:
        """The settings that these images do not tell from the best, without it."""
        return [row for row in self.rows if row is not self.best and row.p_value > LEVEL]


def judge(
    settings: Sequence[Setting],
    runs: Sequence[Results],
    radius: float,
    sigma: float,
    trained: float | None,
) -> SweepOutcome:
    """The outcome of a sweep.

    The best setting has the highest certified accuracy at the radius. Ties go to the larger average
    certified radius, then to the smaller m, which is cheaper, then to the sigma_local nearest to
    the noise that the classifier was trained at, or to the smaller one where that is not known.

    Args:
        settings: at least one, all different.
        runs: their results on the same images, in the same order.
        radius: at which they are judged, no more than the votes can certify.
        sigma, trained: see `SweepOutcome`.
    """
    measured = [_measure(*pair, radius) for pair in zip(settings, runs, strict=True)]

    def merit(row: SweepRow) -> tuple[float, ...]:
        away = abs(row.setting.sigma_local - (trained or 0.0))
        # Rounded: two levels that are as far from sigma' differ in the last bits.
        return row.accuracy, row.average_radius, -row.setting.m, -round(away, 9)

    first = max(range(len(measured)), key=lambda i: merit(measured[i]))
    rows = [
        row._replace(p_value=paired_difference(runs[first], results, radius).p_value)
        for row, results in zip(measured, runs, strict=True)
    ]
    ordered = tuple(sorted(rows, key=lambda row: row.setting))
    return SweepOutcome(ordered, rows[first], radius, sigma, trained, len(runs[first]))


def _measure(setting: Setting, results: Results, radius: float) -> SweepRow:
    (accuracy,) = certified_accuracy(results, [radius])
    ((low, high),) = certified_accuracy_interval(results, [radius])
    average = average_certified_radius(results)
    return SweepRow(setting, float(accuracy), float(low), float(high), average, 1.0)


def sweep_frame(outcome: SweepOutcome) -> pd.DataFrame:
    """One row a setting, as numbers."""
    return pd.DataFrame(
        [
            {
                "sigma_local": row.setting.sigma_local,
                "m": row.setting.m,
                "certified_accuracy": row.accuracy,
                "low": row.low,
                "high": row.high,
                "average_certified_radius": row.average_radius,
                "p_value": row.p_value,
            }
            for row in outcome.rows
        ]
    )


def sweep_text(outcome: SweepOutcome) -> str:
    """The table, what is taken, and what the table does not say."""
    judged = f"certified accuracy at {exact(outcome.radius)}"
    lines = [f"sigma_local    m   {judged}   95 % interval    average radius   beside the best"]
    for row in outcome.rows:
        told = "differs" if row.p_value <= LEVEL else "not told apart"
        mark = "<- taken" if row is outcome.best else f"{told} (p {digits_up(row.p_value, 2)})"
        lines.append(
            f"{exact(row.setting.sigma_local):>11}   {row.setting.m:2}   "
            f"{rounded_down(row.accuracy):>{len(judged)}}   "
            f"{rounded_down(row.low)} .. {rounded_up(row.high)}   "
            f"{rounded_down(row.average_radius):>14}   {mark}"
        )
    best, others, alike = outcome.best, len(outcome.rows) - 1, len(outcome.alike)
    lines += [
        f"taken: sigma_local {exact(best.setting.sigma_local)}, m {best.setting.m}; "
        f"{outcome.images} images, of which {outcome.images * best.accuracy:.0f} are certified at "
        f"radius {exact(outcome.radius)}",
    ]
    if not best.accuracy:
        lines.append(
            "no setting certifies an image at this radius, so this choice says nothing: try a "
            "smaller radius, or look at the checkpoints by `diffsmooth doctor`"
        )
    elif others:
        lines += [
            f"{alike} of the {others} others cannot be told from it by these images (exact paired "
            f"McNemar test, {100 * LEVEL:g} %, each by itself)",
            f"the best of {others + 1} settings on the same images looks a little better than it "
            "is: certify the test images for a number to report",
        ]
    return "\n".join(lines)
