"""p_A of the runs' images, as numbers at a few levels and as a curve over all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from diffsmooth.report.text import MISSING, at_least_text
from diffsmooth.report.writers import Section
from diffsmooth.runs.reading import Run
from diffsmooth.stats import Results
from diffsmooth.stats.bounds import least_sigma
from diffsmooth.stats.printed import exact
from diffsmooth.stats.true_class import share_at_least

LEVELS = (0.5, 0.75, 0.9, 0.99, 0.999)  # of the table
STEPS = 200  # of the curve
TITLE = "Lower bound of p_A, how often f answers an image's true class under the noise"
LOWER = "share of images with at least that (abstained, too; 0 where another class was selected)"


def true_class_table(runs: Sequence[Run], decimals: int = 3) -> list[Section]:
    """One row a run: the share of images with at least each level; no table if no run tells."""
    if not any(run.results.true_class for run in runs):
        return []
    rows = {run.name: [_text(run.results, level, decimals) for level in LEVELS] for run in runs}
    title = f"{TITLE}: {LOWER}"
    return [Section(title, pd.DataFrame.from_dict(rows, "index", columns=[*map(exact, LEVELS)]))]


def true_class_curves(results: Results) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is drawn of a run whose `true_class` is known.

    Returns:
        Levels of p_A, float64 (STEPS + 1,), from 0 to 1; the share of images whose lower bound is
        at least that; and the share of images whose true class has at least that share of votes,
        NaN throughout where a label-aware plan left images without votes.
    """
    assert results.true_class is not None
    levels = np.arange(STEPS + 1) / STEPS
    lower, share = (
        share_at_least(values, levels)
        for values in (results.true_class.lower, results.true_class.share)
    )
    return levels, lower, np.full_like(share, np.nan) if results.count("skipped") else share


def _text(results: Results, level: float, decimals: int) -> str:
    if results.true_class is None or level > _largest(results):
        return MISSING
    share = at_least_text(share_at_least(results.true_class.lower, [level])[0], decimals)
    return f">= {share}" if results.understates else share


def _largest(results: Results) -> float:
    """The largest lower bound that the plan could give, at least 1/2."""
    from scipy.special import ndtr  # slow: not for help and mistakes

    if results.max_radius is None or results.sigma is None:
        return 1.0
    return float(ndtr(results.max_radius / least_sigma(results.sigma)))
