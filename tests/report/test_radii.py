"""At which radii runs are shown."""

from dataclasses import replace

import numpy as np
import pytest
from naming import named

from diffsmooth.report.radii import default_radii, usual_radii
from diffsmooth.stats import Results


def test_a_run_alone_is_shown_up_to_what_it_could_give(results: Results, on_grid: Results) -> None:
    assert default_radii(results).tolist() == [0.0, 0.25, 0.5, 0.75]
    assert default_radii(replace(results, max_radius=2.1)).tolist()[-1] == 2.0
    assert default_radii(on_grid).tolist() == [0.2, 0.625, 1.0]


@pytest.mark.parametrize(
    ("label", "largest", "radii"),
    [
        (9, None, [0, 0.25, 0.5, 0.75]),  # the largest that an image has is 0.9
        (9, 1.1, [0, 0.25, 0.5, 0.75, 1.0]),
        (9, 4.0, [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]),
        (9, 0.0, [0]),
        (999, 4.0, [0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]),
    ],
)
def test_the_usual_radii(
    results: Results, label: int, largest: float | None, radii: list[float]
) -> None:
    run = named("a", replace(results, label=np.full(10, label), max_radius=largest))
    assert usual_radii([run]).tolist() == radii


def test_the_usual_radii_know_the_dataset_and_the_grids(results: Results, on_grid: Results) -> None:
    far = replace(results, max_radius=4.0)
    run = replace(named("a", far), identity={"dataset": "imagenet"})
    assert usual_radii([run]).tolist() == [0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    both = usual_radii([named("fixed", results), named("grid", on_grid)])
    assert both.tolist() == [0.0, 0.2, 0.25, 0.5, 0.625, 0.75, 1.0]
    assert usual_radii([named("grid", on_grid)]).tolist() == [0.2, 0.625, 1.0]
