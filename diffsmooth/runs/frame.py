"""Results as a data frame."""

import numpy as np
import pandas as pd

from diffsmooth.stats import Results


def frame_of(results: Results) -> pd.DataFrame:
    """One row an image, by ascending index; what is not known is NA or NaN.

    Columns: idx, label, predict (-1 abstains), radius (l2, in [0, 1] pixel units), correct,
    p_lower, votes, status, seconds, and of the run sigma, alpha and plan.
    """
    unknown = np.full(len(results), np.nan)
    labelled = results.is_labelled
    has_bound = results.certifies and results.p_lower is not None
    return pd.DataFrame(
        {
            "idx": results.index,
            "label": pd.array(results.label if labelled else unknown, dtype="Int64"),
            "predict": results.prediction,
            "radius": results.radius if results.certifies else unknown,
            "correct": pd.array(
                results.correct if labelled else [None] * len(results), dtype="boolean"
            ),
            "p_lower": results.p_lower if has_bound else unknown,
            "votes": pd.array(unknown if results.votes is None else results.votes, dtype="Int64"),
            "status": pd.array(
                [None] * len(results) if results.status is None else results.status, dtype="string"
            ),
            "seconds": results.seconds,
            "sigma": np.nan if results.sigma is None else results.sigma,
            "alpha": np.nan if results.alpha is None else results.alpha,
            "plan": pd.array([results.plan] * len(results), dtype="string"),
        }
    )
