"""Numbers as text: rounded as the printed tables round them."""

import math

from diffsmooth.report.runs import Run
from diffsmooth.stats import ABSTAIN, average_certified_radius
from diffsmooth.stats.bounds import floor_decimals

NOT_KNOWN = "n/a"


def radius_text(radius: float) -> str:
    """Two decimals, or as many as it takes up to four; other radii are rounded down to three."""
    for decimals in (2, 3, 4):
        text = f"{radius:.{decimals}f}"
        if abs(float(text) - radius) < 1e-9:
            return text
    return f"{floor_decimals(radius, 3):.3f}"


def share_text(share: float) -> str:
    """Three decimals; n/a of a NaN, which was not measured."""
    return NOT_KNOWN if math.isnan(share) else f"{share:.3f}"


def number_text(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def average_text(run: Run) -> str:
    """The average certified radius, ">=" where the plan stopped early."""
    results = run.results
    if not results.has_radii:
        return NOT_KNOWN
    average = average_certified_radius(results)
    return f">= {floor_decimals(average, 3):.3f}" if results.understates else f"{average:.3f}"


def abstention_rate(run: Run) -> float:
    """Share of images that abstained; NaN where skipped images were not asked."""
    results = run.results
    if results.count("skipped"):
        return math.nan
    return (int((results.prediction == ABSTAIN).sum()) - results.count("failed")) / len(results)


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
