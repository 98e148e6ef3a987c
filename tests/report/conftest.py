"""Small runs with known answers."""

from dataclasses import replace

import numpy as np
import pytest

from diffsmooth.stats import Results


@pytest.fixture
def results() -> Results:
    """Ten images, nine right at 0.1, 0.2 .. 0.9, one abstained; 0.95 was the largest possible."""
    return Results(
        index=np.arange(10),
        label=np.zeros(10, dtype=int),
        prediction=np.array([-1] + [0] * 9),
        radius=np.arange(10) / 10,
        seconds=np.ones(10),
        max_radius=0.95,
    )


@pytest.fixture
def on_grid(results: Results) -> Results:
    """The same, by a plan that decided 0.2, 0.625 and 1.0."""
    return replace(
        results,
        plan="group_sequential",
        grid=(0.2, 0.625, 1.0),
        votes=np.full(10, 300),
        status=np.array(["abstained"] + ["certified"] * 9),
    )
