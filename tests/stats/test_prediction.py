from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.stats import ABSTAIN, predict_from_counts


@given(st.lists(st.integers(0, 30), min_size=2, max_size=5), st.sampled_from([0.5, 0.05, 0.001]))
def test_against_the_exact_two_sided_test(counts: list[int], alpha: float) -> None:
    second, top = sorted(counts)[-2:]
    both = top + second
    tail = sum(comb(both, k) for k in range(top, both + 1)) / 2**both
    p_value = min(1.0, 2 * tail)
    answer = predict_from_counts(np.array(counts), alpha)
    if both == 0 or p_value > alpha:
        assert answer == ABSTAIN
    else:
        assert counts[answer] == top


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="alpha"):
        predict_from_counts(np.array([1, 2]), 0.0)
    with pytest.raises(ValueError, match="K >= 2"):
        predict_from_counts(np.array([1]), 0.1)
