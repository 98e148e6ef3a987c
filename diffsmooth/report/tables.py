"""Tables that compare runs, as text and as numbers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from diffsmooth.report.columns import ACR, COLUMNS, Column, columns_of
from diffsmooth.report.names import short_names
from diffsmooth.report.text import (
    MISSING,
    abstention_rate,
    accuracy_text,
    at_least_text,
    average_interval,
    interval_text,
    is_comparable,
)
from diffsmooth.report.writers import Section
from diffsmooth.runs.reading import Run
from diffsmooth.stats import (
    PairedDifference,
    Results,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
    high_probability_accuracy,
    holm,
    paired_difference,
    upper_envelope,
)
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import digits_up, radius_label, signed

RHO = 1e-3  # of the high-probability bound, as in Cohen et al. 2019
DEFAULT = columns_of([*COLUMNS])
P_VALUES = ("p (McNemar)", "p (Holm)")  # of a radius alone, and of all that are shown together


def accuracy_table(
    runs: Sequence[Run],
    radii: np.ndarray,
    columns: Sequence[Column] = DEFAULT,
    decimals: int = 3,
) -> Section:
    """One row a run: certified accuracy at each radius, then other columns.

    The average certified radius (ACR) of a plan that stops early is given only beside runs of the
    same grid: elsewhere it would compare the plans.

    Args:
        runs: at least one.
        radii: (R,), l2, in [0, 1] pixel units.
        columns: those after the radii's.
        decimals: those of the accuracies and of the other columns' numbers.
    """
    rows = {}
    for run in runs:
        accuracies = certified_accuracy(run.results, radii)
        rows[run.name] = [
            *(accuracy_text(run.results, value, decimals) for value in accuracies),
            *(column.text(run, runs, decimals) for column in columns),
        ]
    headings = [*map(radius_label, radii), *(column.heading for column in columns)]
    meanings = (f"; {column.heading}: {column.meaning}" for column in columns if column.meaning)
    title = f"Certified accuracy by radius (l2, in [0, 1] pixel units){''.join(meanings)}"
    text = pd.DataFrame.from_dict(rows, "index", columns=headings)
    best = pd.DataFrame(best_cells(runs, radii, columns), text.index, text.columns)
    return Section(title, text, best)


def best_cells(runs: Sequence[Run], radii: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Which accuracies at the radii, and which average radii, are the best of several runs.

    Returns:
        bool (runs, R + columns). None is where nothing is certified, or what would be compared are
        plans: see `is_comparable`; nor is a lower bound of an average, nor what columns of others
        hold.
    """
    values = np.full((len(runs), len(radii) + len(columns)), np.nan)
    all_results = [run.results for run in runs]
    for row, results in zip(values, all_results, strict=True):
        if is_comparable(results, all_results):
            row[: len(radii)] = certified_accuracy(results, radii)
            if ACR in columns and not results.understates:
                row[len(radii) + columns.index(ACR)] = average_certified_radius(results)
    highest = np.where(np.isnan(values), 0.0, values).max(axis=0)
    return (values == highest) & (highest > 0) & (len(runs) > 1)


def envelope_table(runs: Sequence[Run], radii: np.ndarray, decimals: int = 3) -> pd.DataFrame:
    """The best certified accuracy at each radius and the run that has it, as text.

    Of names that are paths it has what tells the runs apart.

    Raises:
        UserError: no run that can be compared with the others.
    """
    all_results = [run.results for run in runs]
    able = [run for run in runs if is_comparable(run.results, all_results)]
    if not able:
        raise UserError("envelope: no run can be compared with the others")
    found = upper_envelope([run.results for run in able], radii)
    all_names = [run.name for run in runs]
    short = dict(zip(all_names, short_names(all_names), strict=True))
    names = [
        short[able[winner].name] if accuracy > 0 else MISSING
        for accuracy, winner in zip(found.accuracy, found.winner, strict=True)
    ]
    rows = {
        "certified accuracy": [at_least_text(value, decimals) for value in found.accuracy],
        "best run": names,
    }
    return pd.DataFrame.from_dict(rows, "index", columns=[radius_label(r) for r in radii])


def interval_table(runs: Sequence[Run], radii: np.ndarray, decimals: int = 3) -> pd.DataFrame:
    """95 % intervals, as text: Clopper-Pearson of the accuracies, bootstrap of the average."""
    rows = {}
    for run in runs:
        cells = [
            interval_text(low, high, decimals)
            for low, high in certified_accuracy_interval(run.results, radii)
        ]
        rows[run.name] = [*cells, interval_text(*average_interval(run.results), decimals)]
    return pd.DataFrame.from_dict(rows, "index", columns=[*map(radius_label, radii), ACR.heading])


def bound_table(
    runs: Sequence[Run], radii: np.ndarray, decimals: int, alpha: float | None
) -> pd.DataFrame:
    """The high-probability bound of each run's accuracies, as text, rounded down.

    Args:
        runs, radii, decimals: see `accuracy_table`.
        alpha: failure probability of the runs whose own is not known.
    """
    rows = {
        run.name: [
            at_least_text(value, decimals)
            for value in _bound(run.results, radii, run.results.alpha or alpha)
        ]
        for run in runs
    }
    return pd.DataFrame.from_dict(rows, "index", columns=[radius_label(r) for r in radii])


def paired_tables(
    first: Run, others: Sequence[Run], radii: np.ndarray, decimals: int = 3
) -> list[pd.DataFrame]:
    """How the certified accuracy of a run differs from each other one's at each radius, as text.

    The p-values are given twice: each for itself, and corrected for all that the tables show.

    Args:
        first, others: on the same images.
        radii, decimals: see `accuracy_table`.

    Returns:
        One table a run of `others`.

    Raises:
        UserError: other images.
    """
    found = [[_paired(first, other, float(radius)) for radius in radii] for other in others]
    p_values = np.array([difference.p_value for row in found for difference in row])
    corrected = holm(p_values).reshape(len(others), len(radii))
    tables = []
    for other, differences, together in zip(others, found, corrected, strict=True):
        columns = ["difference", f"only {first.name}", f"only {other.name}", *P_VALUES]
        rows = {
            radius_label(one.radius): [MISSING] * len(columns)
            if np.isnan(one.p_value)
            else [
                signed(one.difference, decimals),
                str(one.first_only),
                str(one.second_only),
                digits_up(one.p_value, 2),
                digits_up(p_value, 2),
            ]
            for one, p_value in zip(differences, together, strict=True)
        }
        table = pd.DataFrame.from_dict(rows, "index", columns=columns)
        tables.append(table.rename_axis("radius"))
    return tables


def _paired(first: Run, other: Run, radius: float) -> PairedDifference:
    """Their difference at a radius; p-value NaN where they cannot be compared."""
    both = first.results, other.results
    found = paired_difference(*both, radius)
    if all(is_comparable(results, both) for results in both):
        return found
    return replace(found, p_value=np.nan)


def long_table(runs: Sequence[Run], radii: np.ndarray, alpha: float | None) -> pd.DataFrame:
    """One row a run and radius, as numbers; NaN where not measured or not known.

    Args:
        runs, radii: see `accuracy_table`.
        alpha: failure probability of the runs whose own is not known.
    """
    tables = []
    for run in runs:
        results = run.results
        level = results.alpha or alpha
        low, high = certified_accuracy_interval(results, radii).T
        average = average_certified_radius(results) if results.certifies else np.nan
        average_low, average_high = average_interval(results)
        columns = {
            "run": run.name,
            "radius": radii,
            "certified_accuracy": certified_accuracy(results, radii),
            "accuracy_is_lower_bound": results.understates_accuracy,
            "low_95": low,
            "high_95": high,
            "high_probability_bound": _bound(results, radii, level),
            "average_certified_radius": average,
            "average_is_lower_bound": results.understates,
            "average_low_95": average_low,
            "average_high_95": average_high,
            "abstention_rate": abstention_rate(results),
            "images": len(results),
            "sigma": np.nan if results.sigma is None else results.sigma,
            "alpha": np.nan if level is None else level,
            "noise": results.noise or "",
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _bound(results: Results, radii: np.ndarray, alpha: float | None) -> np.ndarray:
    """The high-probability bound (R,); NaN where alpha is not known, or nothing is certified.

    0 where the theorem's is below: no accuracy is.
    """
    if alpha is None or not results.certifies:
        return np.full(len(radii), np.nan)
    return np.maximum(high_probability_accuracy(results, radii, alpha, RHO), 0.0)
