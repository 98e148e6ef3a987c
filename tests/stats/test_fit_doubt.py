"""What a pilot leaves open of its shares, against many pilots of known ones."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from diffsmooth.stats import FixedSampleSize, GroupSequential
from diffsmooth.stats.fit_doubt import _cells, fit_error
from diffsmooth.stats.forecast import estimate, forecast_average, forecast_votes
from diffsmooth.stats.many_plays import play
from diffsmooth.stats.pilot import PilotImage, ShareModel, fit_shares

SIGMA, PLAN = 0.5, GroupSequential()


def pilot(shares: np.ndarray, n: int, rng: np.random.Generator) -> list[PilotImage]:
    successes = rng.binomial(n, shares)
    return [PilotImage(n, int(s), 0, ((1, int(n - s)),) if s < n else (), 0) for s in successes]


def truth(share: float) -> float:
    return PLAN.n0 + float(play(PLAN, SIGMA, np.full(4000, share), np.random.default_rng(9)).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("share", "n"), [(1 - 1e-4, 1000), (1 - 1e-4, 10_000)])
def test_images_that_are_all_near_1_are_forecast_within_the_error_that_is_told(
    share: float, n: int
) -> None:
    rng, expected = np.random.default_rng(2), truth(share)
    away, by_images_alone = [], []
    for _ in range(8):
        some = pilot(np.full(100, share), n, rng)
        votes = forecast_votes(some, PLAN, SIGMA, rng, plays=20_000)
        found = forecast_average(votes, some, PLAN, SIGMA, rng)
        away.append((found.mean - expected) / found.error)
        alone = estimate(votes.mean(axis=1))
        by_images_alone.append(abs(alone.mean - expected) > 2 * alone.error)
        assert found.error < 0.5 * expected  # it still says something
    assert np.mean(np.abs(away) < 2) > 0.8
    assert np.mean(by_images_alone) > 0.3  # what the images' scatter alone would tell


def test_the_error_is_that_of_many_pilots_and_small_where_shares_are_plain() -> None:
    rng, model = np.random.default_rng(3), ShareModel(4.0, 1.0, 0.3)
    shares = np.where(rng.random(200) < model.certain, 1.0, rng.beta(model.a, model.b, 200))
    wide, narrow = pilot(shares, 100, rng), pilot(shares, 10_000, rng)
    errors = [fit_error(p, fit_shares(p), PLAN, SIGMA, rng) for p in (wide, narrow)]
    assert 200 < errors[0] < 2500
    assert errors[1] < 60


def test_a_fixed_plan_has_none_and_what_is_given_up_has_none() -> None:
    rng = np.random.default_rng(0)
    some = pilot(np.full(20, 0.999), 200, rng)
    model = fit_shares(some)
    assert fit_error(some, model, FixedSampleSize(), SIGMA, rng) == 0.0
    aware = GroupSequential(label_aware=True)
    assert fit_error(some, model, aware, SIGMA, rng) > 0
    wrong = [image._replace(label=7) for image in some]
    assert fit_error(wrong, model, aware, SIGMA, rng) == 0.0


@pytest.mark.parametrize("successes", [[100], [0, 0], [100] * 30, [0, 100], [57]])
def test_few_or_extreme_images_have_a_finite_error(successes: list[int]) -> None:
    some = [PilotImage(100, s, 0, ((1, 100 - s),) if s < 100 else (), 0) for s in successes]
    assert 0 <= fit_error(some, fit_shares(some), PLAN, SIGMA, np.random.default_rng(0)) < 1e5


def test_the_cells_hold_the_whole_distribution() -> None:
    edges = np.array([-np.inf, -1.0, 0.5, 2.0, np.inf])
    (cells,) = _cells(np.array([[3.0, 1.5]]), edges)
    at = [0.0, 0.15865525393, 0.69146246127, 0.97724986805, 1.0]  # Phi
    for cell, low, high in zip(cells, at[:-1], at[1:], strict=True):
        assert cell == pytest.approx(quad(beta(3.0, 1.5).pdf, low, high)[0], abs=1e-9)
    assert _cells(np.array([[1e5, 1e-3], [0.05, 1e3]]), edges).sum(axis=1) == pytest.approx(1.0)


def test_the_state_of_the_generator_stays() -> None:
    rng = np.random.default_rng(5)
    some = pilot(np.full(20, 0.999), 200, rng)
    votes = forecast_votes(some, PLAN, SIGMA, rng, plays=200)
    before = rng.bit_generator.state
    forecast_average(votes, some, PLAN, SIGMA, rng)
    assert rng.bit_generator.state == before
