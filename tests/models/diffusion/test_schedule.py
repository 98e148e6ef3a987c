import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.golden import FOLDER
from diffsmooth.models import DiffusionSchedule

SCHEDULES = {
    "cifar10_cosine_4000": DiffusionSchedule("cosine", 4000),
    "imagenet_linear_1000": DiffusionSchedule("linear", 1000),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_the_published_ones(name: str) -> None:
    golden = np.load(FOLDER / f"schedule_{name}.npz")
    np.testing.assert_allclose(SCHEDULES[name].betas, golden["betas"], rtol=1e-9)
    np.testing.assert_allclose(SCHEDULES[name].alphas_cumprod, golden["alphas_cumprod"], rtol=1e-12)


def test_timesteps_equal_the_published_ones() -> None:
    with open(FOLDER / "timesteps.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 16
    for row in rows:
        schedule = SCHEDULES[row["schedule"]]
        t = schedule.timestep(float(row["sigma"]))
        assert t == int(row["t"])
        assert schedule.alphas_cumprod[t] == pytest.approx(float(row["alpha_bar"]), rel=1e-12)


@given(st.floats(0.001, 5.0), st.sampled_from(sorted(SCHEDULES)))
def test_the_timestep_is_the_first_whose_noise_reaches_sigma(sigma: float, name: str) -> None:
    schedule = SCHEDULES[name]
    t = schedule.timestep(sigma)
    assert schedule.sigma(t) >= sigma * (1 - 1e-12)
    assert t == 0 or schedule.sigma(t - 1) < sigma * (1 + 1e-12)


def test_sigma_out_of_range_says_what_is_possible() -> None:
    schedule = SCHEDULES["imagenet_linear_1000"]
    largest = schedule.max_sigma
    assert schedule.timestep(largest * (1 - 1e-9)) == 999
    with pytest.raises(ValueError, match=f"the largest possible is {largest:.4g}"):
        schedule.timestep(largest * 1.001)
    with pytest.raises(ValueError, match="sigma must be > 0, got 0"):
        schedule.timestep(0)


def test_network_time_is_in_0_1000() -> None:
    assert SCHEDULES["cifar10_cosine_4000"].network_time(3999) == pytest.approx(999.75)
    assert SCHEDULES["imagenet_linear_1000"].network_time(999) == 999


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="unknown schedule kind 'x': known are"):
        DiffusionSchedule("x", 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1"):
        DiffusionSchedule("linear", 0)
