"""Numbers of a run as text, and what must be said of them."""

from collections.abc import Sequence

import numpy as np

from diffsmooth.report.radii import default_radii
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import (
    ABSTAIN,
    Results,
    average_certified_radius,
    average_radius_interval,
    certified_accuracy,
    certified_accuracy_interval,
)
from diffsmooth.stats.comparison import Interval
from diffsmooth.stats.printed import counted, exact, radius_label, rounded_down, rounded_up

MISSING = "n/a"


def at_least_text(value: float, decimals: int = 3) -> str:
    """An accuracy or a bound of one, rounded down; not below 0, "n/a" for NaN."""
    return MISSING if np.isnan(value) else rounded_down(max(0.0, value), decimals)


def interval_text(low: float, high: float, decimals: int = 3, between: str = "-") -> str:
    """Both ends, rounded outwards; "n/a" for NaN."""
    if np.isnan(low):
        return MISSING
    return f"{rounded_down(low, decimals)}{between}{rounded_up(high, decimals)}"


def average_text(results: Results, decimals: int = 3) -> str:
    """The average certified radius, ">=" where it is a lower bound, "n/a" where there are none."""
    if not results.certifies:
        return MISSING
    average = rounded_down(average_certified_radius(results), decimals)
    return f">= {average}" if results.understates else average


def average_interval(results: Results) -> Interval:
    """95 % interval of the average certified radius; NaN where that is a lower bound, or none."""
    if results.understates or not results.certifies:
        return Interval(np.nan, np.nan)
    return average_radius_interval(results)


def abstention_rate(results: Results) -> float:
    """Share of images that were tried and not answered; NaN for label-aware runs, which skip."""
    if results.count("skipped"):
        return np.nan
    failed = results.count("failed")
    return float(np.sum(results.prediction == ABSTAIN) - failed) / len(results)


def abstained_text(results: Results, decimals: int = 3) -> str:
    """The abstention rate."""
    rate = abstention_rate(results)
    if np.isnan(rate):
        return "n/a: label-aware"
    return f"{'<= ' if results.understates_accuracy else ''}{rounded_up(rate, decimals)}"


def shows_average(run: Run, runs: Sequence[Run]) -> bool:
    """Whether a run's average radius can stand beside those of `runs`, without comparing plans."""
    alike = _alike([other.results for other in runs])
    return run.results.certifies and (alike or not run.results.understates)


def is_comparable(results: Results, others: Sequence[Results]) -> bool:
    """Whether the certified accuracy of a run can be compared with those of others, itself too.

    Predictions certify nothing, and a lower bound beside another plan would compare the plans.
    """
    return results.certifies and (_alike(others) or not results.understates_accuracy)


def _alike(runs: Sequence[Results]) -> bool:
    """Whether all runs stopped by the same rule."""
    rules = {(r.grid, r.tolerance, r.stopped_for, r.alpha if r.stopped_for else None) for r in runs}
    return len(rules) == 1


def accuracy_text(results: Results, accuracy: float, decimals: int = 3) -> str:
    """A certified accuracy, ">=" where it is a lower bound, "n/a" where it is not measured."""
    text = at_least_text(accuracy, decimals)
    return f">= {text}" if results.understates_accuracy and text != MISSING else text


def remarks_on(results: Results) -> list[str]:
    """What a reader of a run's numbers must know, one line each."""
    remarks = []
    if not results.certifies:
        remarks.append(
            "predictions without radii, so the accuracy at radius 0 only, which certifies nothing"
        )
    if results.grid:
        remarks.append(
            "decided at the radii of a grid only, so n/a elsewhere; more votes could certify more "
            "between them, so the average radius is a lower bound, n/a beside other plans"
        )
    if results.tolerance is not None:
        remarks.append(
            f"votes stopped within {100 * results.tolerance:g} % of the radius that all of them "
            "were predicted to give, so all numbers are lower bounds; the average radius is n/a "
            "beside other plans"
        )
    if results.stopped_for is not None:
        remarks.append(
            f"votes stopped early for alpha {exact(results.stopped_for)}, and more could certify "
            "more at this one: accuracies are lower bounds, not compared with other plans"
        )
    if skipped := results.count("skipped"):
        images = counted(skipped, "image")
        remarks.append(f"{images} skipped, whose selected class is not the label")
    if failed := results.count("failed"):
        counts = "counts" if failed == 1 else "count"
        remarks.append(
            f"{counted(failed, 'image')} failed, which {counts} as not certified; see the journal"
        )
    return remarks


def remarks_of(runs: Sequence[Run]) -> list[str]:
    """What a reader of the runs' files and numbers must know, one line each."""
    return [
        f"{run.name}: {remark}"
        for run in runs
        for remark in [*run.remarks, *remarks_on(run.results)]
    ]


def summary_text(results: Results) -> str:
    """What is printed of a run at its end.

    Certified accuracy with 95 % intervals at the default radii, and the run's averages.
    """
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
        f"abstained {abstained_text(results)}, {counted(len(results), 'image')}"
    )
    if results.plan is not None and results.votes is not None:
        votes = rounded_up(results.votes.mean(), 0)
        noise = f", {results.noise} noise" if results.noise else ""
        lines.append(f"plan {shown(results.plan)}, {votes} votes an image on average{noise}")
    return "\n".join(lines + remarks_on(results))
