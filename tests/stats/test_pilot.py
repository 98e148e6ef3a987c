import numpy as np
import pytest
from scipy.stats import betabinom

from diffsmooth.stats import Certificate, FixedSampleSize, GroupSequential, Look
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.pilot import (
    PilotImage,
    ShareModel,
    Unresolved,
    fit_shares,
    pilot_images,
    select,
    unresolved,
)

SIGMA = 0.5


def images(successes: list[int] | np.ndarray, n: int) -> list[PilotImage]:
    return [PilotImage(n, int(s), 0, ((1, int(n - s)),) if s < n else (), 0) for s in successes]


def certified(selection: list[int], estimation: list[int]) -> Certificate:
    plan = FixedSampleSize(n0=sum(selection), n=sum(estimation))
    run = plan.start(SIGMA, len(selection))
    run.update(np.array(selection))
    run.update(np.array(estimation))
    return run.certificate


def test_the_votes_of_the_images() -> None:
    plan = GroupSequential(n0=10, n=90, label_aware=True)
    run = plan.start(SIGMA, 3, label=2)
    run.update(np.array([7, 3, 0]))
    assert run.certificate.status == "skipped"
    found = pilot_images(
        [certified([2, 8, 0], [30, 60, 10]), plan.nothing(SIGMA), run.certificate], [1, 0, 2]
    )
    assert found == [
        PilotImage(100, 60, 1, ((0, 32), (2, 10)), 1),
        PilotImage(10, 7, 0, ((1, 3),), 2),  # of the selection: there is nothing else
    ]
    for nothing in ([], [plan.nothing(SIGMA)], [run.certificate]):
        with pytest.raises(UserError, match="no estimation votes"):
            pilot_images(nothing, [0] * len(nothing))


def test_the_model_is_found_again() -> None:
    truth, n, rng = ShareModel(4.0, 0.8, 0.3), 1000, np.random.default_rng(0)
    shares = np.where(rng.random(5000) < truth.certain, 1.0, rng.beta(truth.a, truth.b, 5000))
    found = fit_shares(images(rng.binomial(n, shares), n))
    assert found.a == pytest.approx(truth.a, rel=0.1)
    assert found.b == pytest.approx(truth.b, rel=0.1)
    assert found.certain == pytest.approx(truth.certain, abs=0.03)


def test_the_likelihood_is_scipys_and_none_nearby_is_larger() -> None:
    n, successes = 50, [50, 50, 50, 49, 45, 44, 30, 21, 48]
    found = fit_shares(images(successes, n))

    def log_likelihood(a: float, b: float, certain: float) -> float:
        chances = (1 - certain) * betabinom.pmf(successes, n, a, b)
        return float(np.log(chances + certain * (np.array(successes) == n)).sum())

    best = log_likelihood(*found)
    for factors in np.eye(3) * 0.03 + 1, np.eye(3) * -0.03 + 1:
        for factor in factors:
            assert log_likelihood(*np.multiply(found, factor)) <= best + 1e-4


@pytest.mark.parametrize("successes", [[100], [0, 0], [100] * 30, [0, 100], [57]])
def test_few_or_extreme_images_give_shares_near_their_own(successes: list[int]) -> None:
    some = images(successes, 100)
    shares = fit_shares(some).draw(some, 2000, np.random.default_rng(0))
    assert shares.shape == (len(some), 2000)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.mean(axis=1), np.divide(successes, 100), atol=0.05)


def test_shares_given_the_votes_by_bayes() -> None:
    model, some = ShareModel(3.0, 1.0, 0.25), images([20, 13], 20)
    shares = model.draw(some, 40_000, np.random.default_rng(1))
    unanimous = betabinom.pmf(20, 20, 3.0, 1.0)
    expected = 0.25 / (0.25 + 0.75 * unanimous)
    assert (shares[0] == 1.0).mean() == pytest.approx(expected, abs=0.01)
    assert shares[0][shares[0] < 1].mean() == pytest.approx(23 / 24, abs=0.002)
    assert shares[1].max() < 1.0
    assert shares[1].mean() == pytest.approx(16 / 24, abs=0.002)


def test_a_selection_by_fresh_votes() -> None:
    rng, copies = np.random.default_rng(2), 20_000
    near = PilotImage(1000, 520, 2, ((0, 360), (1, 120)), None)
    selected, shares = select(near, np.full(copies, 0.5), 3, rng)
    # Three votes at 0.375, 0.125, 0.5: at least two, or one each, of which the first class wins.
    wins = {k: p**3 + 3 * p**2 * (1 - p) for k, p in enumerate((0.375, 0.125, 0.5))}
    wins[0] += 6 * 0.375 * 0.125 * 0.5
    for k, share in enumerate((0.375, 0.125, 0.5)):
        assert (selected == k).mean() == pytest.approx(wins[k], abs=0.015)
        np.testing.assert_allclose(shares[selected == k], share)
    selected, shares = select(PilotImage(10, 10, 4, (), None), np.full(50, 0.999), 100, rng)
    assert set(selected) == {4}
    assert set(shares) == {0.999}


def test_too_few_votes_for_the_largest_radius() -> None:
    # sigma * Phi^-1(0.001 ** (1 / 1000)) = 1.2316; log(0.001) / log Phi(3) = 5114
    some = images([1000, 1000, 400], 1000)
    found = unresolved(some, GroupSequential(), SIGMA)
    assert found == Unresolved(2, 1.5, pytest.approx(1.2316, abs=1e-4), 5114)
    assert unresolved(some, GroupSequential(radii=(0.0, 1.23)), SIGMA) is None
    assert unresolved(images([999, 400], 1000), GroupSequential(), SIGMA) is None
    assert unresolved(images([5114], 5114), GroupSequential(), SIGMA) is None
    assert unresolved(some, FixedSampleSize(), SIGMA) is None
    # No votes of the plan certify 3.0: that is known at once, and costs none.
    assert unresolved(some, GroupSequential(radii=(0.5, 3.0)), SIGMA) is None
    reach = GroupSequential().nothing(SIGMA).max_radius
    within = unresolved(some, GroupSequential(tolerance=0.1), SIGMA)
    assert within is not None
    assert within.radius == pytest.approx(0.9 * reach)
    wrong = [image._replace(label=1) for image in some]
    assert unresolved(wrong, GroupSequential(label_aware=True), SIGMA) is None


def test_looks_of_a_sequential_pilot_count_as_their_votes() -> None:
    plan = GroupSequential(n0=5, n=2000, radii=(0.0,))
    run = plan.start(SIGMA, 2)
    run.update(np.array([5, 0]))
    while wanted := run.wanted:
        run.update(np.array([wanted, 0]))
    (found,) = pilot_images([run.certificate], [None])
    assert run.certificate.looks[-1] == Look(found.n, found.successes) == (100, 100)


@pytest.mark.parametrize("n", [1000, 10_000])
def test_shares_that_are_all_near_1_are_not_spread(n: int) -> None:
    # Each image loses 1 vote in 10,000. (With e^7 as the largest a, b could not exceed 0.1.)
    some = images(np.random.default_rng(4).binomial(n, np.full(2000, 1 - 1e-4)), n)
    lost = 1 - fit_shares(some).draw(some, 20, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(1e-4, rel=0.15)
    assert ((lost > 3e-5) & (lost < 3e-4)).mean() > 0.8
