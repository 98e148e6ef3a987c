"""Tables that compare runs, as text and as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffsmooth.report.runs import Run
from diffsmooth.report.text import (
    MISSING,
    abstained_text,
    abstention_rate,
    average_text,
    floor_text,
    interval_text,
    number_text,
    radius_text,
    remarks_on,
    shows_average,
)
from diffsmooth.stats import (
    Results,
    average_certified_radius,
    average_radius_interval,
    certified_accuracy,
    certified_accuracy_interval,
    high_probability_accuracy,
    paired_difference,
    upper_envelope,
)

RHO = 1e-3  # of the high-probability bound, as in Cohen et al. 2019
AVERAGE = "ACR"


@dataclass(frozen=True)
class AccuracyTable:
    """Cells as text, one row a run, and which of them are the best of their column."""

    text: pd.DataFrame
    best: pd.DataFrame


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
        average_certified_radius(run.results) if shows_average(run, runs) else np.nan
        for run in runs
    ]
    text = values.map(lambda value: number_text(value, decimals))
    text[AVERAGE] = [
        average_text(run.results, decimals) if shows_average(run, runs) else MISSING for run in runs
    ]
    text["abstained"] = [abstained_text(run.results, decimals) for run in runs]
    text["images"] = [str(len(run.results)) for run in runs]
    if envelope:
        found = upper_envelope([run.results for run in runs], radii)
        text.loc["upper envelope", columns] = [number_text(v, decimals) for v in found.accuracy]
        text.loc["best run", columns] = [names[i] if i >= 0 else MISSING for i in found.winner]
    best = pd.DataFrame(False, text.index, text.columns)
    if len(runs) > 1:
        best.loc[names, values.columns] = values.eq(values.max())
    return AccuracyTable(text.fillna(""), best)


def interval_table(runs: Sequence[Run], radii: np.ndarray, decimals: int = 3) -> pd.DataFrame:
    """95 % intervals, as text: Clopper-Pearson of the accuracies, bootstrap of the average."""
    rows = {}
    for run in runs:
        cells = [
            interval_text(low, high, decimals)
            for low, high in certified_accuracy_interval(run.results, radii)
        ]
        average = MISSING
        if shows_average(run, runs) and not run.results.understates:
            average = interval_text(*average_radius_interval(run.results), decimals)
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
            floor_text(value, decimals)
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
    remarks = [
        f"{run.name}: {remark}"
        for run in runs
        for remark in [*run.remarks, *remarks_on(run.results)]
    ]
    if len({run.results.index.tobytes() for run in runs}) > 1:
        remarks.append("the runs are not on the same images")
    return remarks
