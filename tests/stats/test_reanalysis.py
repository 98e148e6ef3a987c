"""Re-analysis at another alpha, against running the plan itself at that alpha."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsmooth.stats import (
    Certificate,
    FixedSampleSize,
    GroupSequential,
    Look,
    MajorityVote,
    Plan,
    lower_confidence_bound,
    reanalyse,
)

ALPHAS = st.sampled_from([1e-5, 1e-3, 0.01, 0.05, 0.3])


def play(plan: Plan, share: float, seed: int = 0, label: int | None = None) -> Certificate:
    """The plan on random votes, of which `share` are for class 1 of 3."""
    generator = np.random.default_rng(seed)
    run = plan.start(0.5, 3, label)
    while run.wanted:
        run.update(generator.multinomial(run.wanted, [(1 - share) / 2, share, (1 - share) / 2]))
    return run.certificate


@given(share=st.floats(0.0, 1.0), made=ALPHAS, wanted=ALPHAS, n=st.integers(1, 400))
def test_a_fixed_plan_is_the_same_as_run_at_that_alpha(
    share: float, made: float, wanted: float, n: int
) -> None:
    again = reanalyse(play(FixedSampleSize(10, n, made), share), wanted)
    assert again == play(FixedSampleSize(10, n, wanted), share)


@given(share=st.floats(0.0, 1.0), made=ALPHAS, wanted=ALPHAS, n=st.integers(1, 5000))
def test_a_sequential_plan_keeps_its_looks_and_takes_the_levels_of_that_alpha(
    share: float, made: float, wanted: float, n: int
) -> None:
    first = play(GroupSequential(10, n, made, (0.0, 0.5), first_look=50), share)
    again = reanalyse(first, wanted)
    plan = GroupSequential(10, n, wanted, (0.0, 0.5), first_look=50)
    levels = dict(zip(plan.looks, plan.levels, strict=True))
    bound = max(lower_confidence_bound(s, look, levels[look]) for look, s in first.looks)
    assert again.p_lower == bound
    assert again.max_radius == plan.nothing(0.5).max_radius
    assert (again.status == "certified") == (bound > 0.5)
    assert again.looks == first.looks
    if wanted == made:
        assert again == first


@given(share=st.floats(0.0, 1.0), made=ALPHAS, wanted=ALPHAS)
def test_a_prediction_is_the_same_as_made_at_that_alpha(
    share: float, made: float, wanted: float
) -> None:
    again = reanalyse(play(MajorityVote(100, made), share), wanted)
    assert again == play(MajorityVote(100, wanted), share)


@pytest.mark.parametrize("plan", [FixedSampleSize(), GroupSequential(), MajorityVote()])
def test_images_without_votes_stay_without(plan: Plan) -> None:
    again = reanalyse(plan.nothing(0.5), 0.05)
    assert (again.status, again.radius, again.alpha) == ("failed", 0.0, 0.05)


@pytest.mark.parametrize(("n", "first_look"), [(1000, 100), (80, 20), (50, 2), (1000, 1000)])
def test_skipped_images_stay_skipped(n: int, first_look: int) -> None:
    plan = GroupSequential(10, n, first_look=first_look, label_aware=True)
    again = reanalyse(play(plan, 0.9, label=2), 0.05, first_look)
    assert (again.status, again.prediction, again.radius) == ("skipped", -1, 0.0)
    assert again.max_radius == replace(plan, alpha=0.05).nothing(0.5).max_radius


def test_votes_that_do_not_give_the_certificates_bound_are_refused() -> None:
    certificate = play(FixedSampleSize(10, 100), 0.9)
    with pytest.raises(ValueError, match="they are not of the plan fixed"):
        reanalyse(replace(certificate, p_lower=0.95), 0.01)
    with pytest.raises(ValueError, match="not those that were counted"):
        reanalyse(replace(certificate, looks=(Look(100, 99),)), 0.01)
    successes = certificate.looks[0].successes
    with pytest.raises(ValueError, match="looks at other votes"):
        reanalyse(replace(certificate, looks=(Look(99, successes),)), 0.01)
    with pytest.raises(ValueError, match="plan 'new' is not known"):
        reanalyse(replace(certificate, plan="new"), 0.01)
    with pytest.raises(ValueError, match="alpha must be in"):
        reanalyse(certificate, 1.0)


def test_a_label_aware_run_says_which_votes() -> None:
    # A wrong label stops the image after its selection votes; a right one changes nothing.
    plan = GroupSequential(10, 1000, label_aware=True)
    assert reanalyse(play(plan, 0.9, label=1), 1e-3) == play(plan, 0.9, label=1)
