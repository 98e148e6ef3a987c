"""Prediction by the smoothed classifier, without a radius."""

import numpy as np

from diffsmooth.stats.bounds import check_alpha
from diffsmooth.stats.certificate import ABSTAIN


def predict_from_counts(counts: np.ndarray, alpha: float) -> int:
    """The smoothed classifier's class, or ABSTAIN.

    Args:
        counts: votes a class, integers (K,) with K >= 2.
        alpha: probability that an answer is not the smoothed classifier's class, in (0, 1).

    Returns:
        The top class if the two-sided binomial test against the runner-up rejects a tie at level
        alpha, else ABSTAIN. Without votes it abstains.

    Raises:
        ValueError: alpha out of range, or fewer than two classes.

    Source: Cohen et al. 2019, section 3.2.1, PREDICT.
    """
    from scipy.stats import binomtest

    check_alpha(alpha)
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"counts must be (K,) with K >= 2, got shape {counts.shape}")
    second, top = np.argsort(counts, kind="stable")[-2:]
    both = int(counts[top] + counts[second])
    if both == 0 or binomtest(int(counts[top]), both, 0.5).pvalue > alpha:
        return ABSTAIN
    return int(top)
