"""The closing table of a run, and tables that compare runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffsmooth.report.runs import Run
from diffsmooth.stats import (
    ABSTAIN,
    Results,
    average_certified_radius,
    average_radius_interval,
    certified_accuracy,
    certified_accuracy_interval,
    high_probability_accuracy,
    paired_difference,
    upper_envelope,
)
from diffsmooth.stats.bounds import floor_decimals

RHO = 1e-3  # of the high-probability bound, as in Cohen et al. 2019
STEP, TOP = 0.25, 1.5  # of the radii that the field's tables have for images of 32 x 32
LARGE_STEP, LARGE_TOP = 0.5, 3.0  # and for ImageNet
LARGE_CLASSES = 100  # from which an unknown dataset counts as such a one
AVERAGE = "ACR"
MISSING = "n/a"


@dataclass(frozen=True)
class AccuracyTable:
    """Cells as text, one row a run, and which of them are the best of their column."""

    text: pd.DataFrame
    best: pd.DataFrame


def usual_radii(runs: Sequence[Run]) -> np.ndarray:
    """The radii of the field's tables for such images, and the runs' own grids.

    Beyond the largest radius that a run of another plan could give, or has, there are none.

    Returns:
        float64 (R,), ascending, l2, in [0, 1] pixel units.
    """
    classes = max(int(run.results.label.max()) + 1 for run in runs)
    large = runs[0].dataset == "imagenet" or classes >= LARGE_CLASSES
    step, top = (LARGE_STEP, LARGE_TOP) if large else (STEP, TOP)
    largest = max((_largest(run.results) for run in runs if not run.results.grid), default=-1.0)
    usual = np.arange(0.0, min(top, largest) + 1e-9, step)
    return np.unique(np.concatenate([usual, *(run.results.grid for run in runs)]).round(9))


def default_radii(results: Results) -> np.ndarray:
    """The grid, or multiples of 0.25 up to the largest possible or certified radius.

    Returns:
        float64 (R,), l2, in [0, 1] pixel units.
    """
    return np.array(results.grid or np.arange(0.0, _largest(results) + 1e-9, STEP))


def _largest(results: Results) -> float:
    """The largest radius that the plan could give, or, where not known, that an image has."""
    if results.max_radius is not None:
        return results.max_radius
    return float(results.radius.max(initial=0.0))


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
    return "\n".join(lines + run_remarks(results))


def accuracy_table(
    runs: Sequence[Run], radii: np.ndarray, decimals: int = 3, envelope: bool = False
) -> AccuracyTable:
    """One row a run: certified accuracy at each radius, the average radius, abstentions, images.

    The average certified radius (ACR) of a plan that stops early is given only beside runs of the
    same grid: elsewhere it would compare the plans.

    Args:
        runs: at least one.
        radii: (R,), l2, in [0, 1] pixel units.
        decimals: of the accuracies and the average.
        envelope: adds a row of the best accuracy at each radius, and one of the run that has it.
    """
    names = [run.name for run in runs]
    columns = [radius_text(radius) for radius in radii]
    values = pd.DataFrame(
        [certified_accuracy(run.results, radii) for run in runs], names, columns, dtype=float
    )
    values[AVERAGE] = [
        average_certified_radius(run.results) if _shows_average(run, runs) else np.nan
        for run in runs
    ]
    text = values.map(lambda value: number_text(value, decimals))
    text[AVERAGE] = [
        average_text(run.results, decimals) if _shows_average(run, runs) else MISSING
        for run in runs
    ]
    text["abstained"] = [abstained_text(run.results, decimals) for run in runs]
    text["images"] = [str(len(run.results)) for run in runs]
    if envelope:
        found = upper_envelope([run.results for run in runs], radii)
        text.loc["upper envelope", columns] = [number_text(v, decimals) for v in found.accuracy]
        text.loc["of", columns] = [names[i] if i >= 0 else MISSING for i in found.winner]
    best = pd.DataFrame(False, text.index, text.columns)
    if len(runs) > 1:
        best.loc[names, values.columns] = values.eq(values.max())
    return AccuracyTable(text.fillna(""), best)


def interval_table(runs: Sequence[Run], radii: np.ndarray, decimals: int = 3) -> pd.DataFrame:
    """95 % intervals, as text: Clopper-Pearson of the accuracies, bootstrap of the average."""
    rows = {}
    for run in runs:
        cells = [
            _interval_text(low, high, decimals)
            for low, high in certified_accuracy_interval(run.results, radii)
        ]
        average = MISSING
        if _shows_average(run, runs) and not run.results.understates:
            average = _interval_text(*average_radius_interval(run.results), decimals)
        rows[run.name] = [*cells, average]
    return pd.DataFrame.from_dict(rows, "index", columns=[*map(radius_text, radii), AVERAGE])


def bound_table(
    runs: Sequence[Run], radii: np.ndarray, decimals: int, alpha: float | None
) -> pd.DataFrame:
    """The high-probability bound of each run's accuracies, as text, rounded down.

    Args:
        runs, radii, decimals: see `accuracy_table`.
        alpha: of the runs whose own is not known.
    """
    rows = {
        run.name: [
            _floor_text(value, decimals)
            for value in _bound(run.results, radii, run.results.alpha or alpha)
        ]
        for run in runs
    }
    return pd.DataFrame.from_dict(rows, "index", columns=[radius_text(r) for r in radii])


def paired_table(first: Run, second: Run, radii: np.ndarray, decimals: int = 3) -> pd.DataFrame:
    """How the certified accuracy of two runs on the same images differs at each radius, as text.

    Raises:
        ValueError: other images.
    """
    rows = {}
    for radius in radii:
        found = paired_difference(first.results, second.results, float(radius))
        cells = [
            f"{found.difference:+.{decimals}f}",
            str(found.first_only),
            str(found.second_only),
            f"{found.p_value:.2g}",
        ]
        rows[radius_text(radius)] = [MISSING] * 4 if np.isnan(found.p_value) else cells
    columns = ["difference", f"only {first.name}", f"only {second.name}", "p (McNemar)"]
    table = pd.DataFrame.from_dict(rows, "index", columns=columns)
    return table.rename_axis("radius")


def long_table(runs: Sequence[Run], radii: np.ndarray, alpha: float | None) -> pd.DataFrame:
    """One row a run and radius, as numbers; NaN where not measured or not known.

    Args:
        runs, radii: see `accuracy_table`.
        alpha: of the runs whose own is not known.
    """
    tables = []
    for run in runs:
        results = run.results
        level = results.alpha or alpha
        low, high = certified_accuracy_interval(results, radii).T
        columns = {
            "run": run.name,
            "radius": radii,
            "certified_accuracy": certified_accuracy(results, radii),
            "low_95": low,
            "high_95": high,
            "high_probability_bound": _bound(results, radii, level),
            "average_certified_radius": np.nan,
            "average_is_lower_bound": results.understates,
            "average_low_95": np.nan,
            "average_high_95": np.nan,
            "abstention_rate": abstention_rate(results),
            "images": len(results),
            "sigma": results.sigma,
            "alpha": level,
        }
        if results.has_radii:
            columns["average_certified_radius"] = average_certified_radius(results)
            interval = average_radius_interval(results)
            columns["average_low_95"], columns["average_high_95"] = interval
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _bound(results: Results, radii: np.ndarray, alpha: float | None) -> np.ndarray:
    """The high-probability bound (R,); NaN where alpha is not known, or nothing is certified."""
    if alpha is None or not results.has_radii:
        return np.full(len(radii), np.nan)
    return high_probability_accuracy(results, radii, alpha, RHO)


def comparison_remarks(runs: Sequence[Run]) -> list[str]:
    """What a reader of the comparison must know, one line each."""
    remarks = [f"{run.name}: {remark}" for run in runs for remark in run.remarks]
    grids = ", ".join(run.name for run in runs if run.results.grid)
    tolerant = ", ".join(run.name for run in runs if run.results.tolerance is not None)
    predictions = ", ".join(run.name for run in runs if not run.results.has_radii)
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
    if predictions:
        remarks.append(
            f"{predictions}: predictions without radii, so the accuracy at radius 0 only, which "
            "certifies nothing"
        )
    for run in runs:
        if failed := run.results.count("failed"):
            remarks.append(f"{run.name}: {failed} images failed, which count as not certified")
        if skipped := run.results.count("skipped"):
            remarks.append(
                f"{run.name}: {skipped} images skipped, whose selected class is not the label"
            )
    if len({run.results.index.tobytes() for run in runs}) > 1:
        remarks.append("the runs are not on the same images")
    return remarks


def run_remarks(results: Results) -> list[str]:
    """What a reader of one run's numbers must know, one line each."""
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


def average_text(results: Results, decimals: int = 3) -> str:
    """The average certified radius, ">=" where it is a lower bound, "n/a" where there are none."""
    if not results.has_radii:
        return MISSING
    average = average_certified_radius(results)
    if results.understates:
        return f">= {floor_decimals(average, decimals):.{decimals}f}"
    return f"{average:.{decimals}f}"


def abstention_rate(results: Results) -> float:
    """Share of images that were tried and not answered; NaN for label-aware runs, which skip."""
    if results.count("skipped"):
        return np.nan
    failed = results.count("failed")
    return float(np.sum(results.prediction == ABSTAIN) - failed) / len(results)


def abstained_text(results: Results, decimals: int = 3) -> str:
    """The abstention rate."""
    rate = abstention_rate(results)
    return "n/a: label-aware" if np.isnan(rate) else f"{rate:.{decimals}f}"


def radius_text(radius: float) -> str:
    """Two decimals, or as many as it takes to tell the grid's radii apart."""
    text = f"{radius:.2f}"
    return text if abs(float(text) - radius) < 1e-9 else f"{radius:.9g}"


def number_text(value: float, decimals: int = 3) -> str:
    """A number, "n/a" for NaN."""
    return MISSING if np.isnan(value) else f"{value:.{decimals}f}"


def _floor_text(value: float, decimals: int) -> str:
    if np.isnan(value):
        return MISSING
    return f"{floor_decimals(max(0.0, value), decimals):.{decimals}f}"


def _interval_text(low: float, high: float, decimals: int) -> str:
    return MISSING if np.isnan(low) else f"{low:.{decimals}f}-{high:.{decimals}f}"


def _shows_average(run: Run, runs: Sequence[Run]) -> bool:
    alike = len({(other.results.grid, other.results.tolerance) for other in runs}) == 1
    return run.results.has_radii and (alike or not run.results.understates)
