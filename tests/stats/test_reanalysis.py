"""Re-analysis at another alpha, against running the plan itself at that alpha."""

from dataclasses import replace
from typing import Any

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
from diffsmooth.stats.reanalysis import recompute

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
    skipped = play(plan, 0.9, label=2)
    again = reanalyse(skipped, 0.05)
    # Format 1 of the journal has no first look: whether several were planned, max_radius tells.
    assert reanalyse(replace(skipped, first_look=0), 0.05) == replace(again, first_look=0)
    assert (again.status, again.prediction, again.radius) == ("skipped", -1, 0.0)
    assert again.max_radius == replace(plan, alpha=0.05).nothing(0.5).max_radius


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_lower": 0.95}, r"p_lower is 0\.95, but the votes give 0\.8"),
        ({"radius": 0.9}, r"radius is 0\.9, but the votes give 0\.5"),
        ({"max_radius": 9.9}, r"max_radius is 9\.9, but"),
        ({"prediction": 0}, "prediction is 0, but the votes give 1"),
        ({"selected": 0}, "selected is 0, but"),
        ({"status": "abstained"}, "status is 'abstained', but"),
        ({"status": "failed"}, r"radius is|p_lower is|status is|prediction is"),
        ({"n0": 11}, "n0 is 11, but"),
        ({"n": 101}, "n is 101, but"),
        ({"votes": 111}, "votes is 111, but"),
        ({"looks": (Look(100, 99),)}, "not those that were counted"),
        ({"looks": (Look(99, 90),)}, "looks at other votes"),
        ({"looks": ()}, "there are no votes, but no error either"),
        ({"plan": "new"}, "plan 'new' is not known"),
        ({"selection_counts": ((1, 5), (1, 5))}, "counts must be"),
        ({"selection_counts": ()}, "there are no votes, but no error either"),
        ({"sigma": 0.6}, r"max_radius is|radius is"),
        ({"alpha": 0.01}, r"radius is|p_lower is"),
    ],
)
def test_a_certificate_that_its_votes_do_not_give_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    certificate = play(FixedSampleSize(10, 100), 0.9)
    assert recompute(certificate) == certificate
    with pytest.raises(ValueError, match=message):
        recompute(replace(certificate, **changes))
    with pytest.raises(ValueError, match=message):
        reanalyse(replace(certificate, **changes), 0.02)


@pytest.mark.parametrize(
    "looks",
    [
        (Look(100, 90), Look(125, 89), Look(157, 120)),  # successes fall
        (Look(100, 70), Look(125, 100), Look(157, 120)),  # more successes than votes
        (Look(100, 90), Look(157, 120)),  # a look is missing
    ],
)
def test_looks_that_cannot_follow_each_other_are_refused(looks: tuple[Look, ...]) -> None:
    plan = GroupSequential(10, 1000, radii=(0.0, 3.0))
    certificate = replace(
        play(plan, 0.8), looks=looks, estimation_counts=((0, 37), (1, 120)), n=157, votes=167
    )
    with pytest.raises(ValueError, match="looks"):
        recompute(certificate)


def test_alpha_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="alpha must be in"):
        reanalyse(play(FixedSampleSize(10, 100), 0.9), 1.0)


@given(share=st.floats(0.0, 1.0), n=st.integers(1, 3000), first=st.integers(1, 200))
def test_what_a_plan_concludes_follows_from_what_is_kept(share: float, n: int, first: int) -> None:
    for plan in (
        FixedSampleSize(10, n),
        GroupSequential(10, n, first_look=first),
        GroupSequential(10, n, first_look=first, tolerance=0.05),
        MajorityVote(n),
    ):
        known = play(plan, share)
        assert recompute(known) == known
        assert recompute(plan.nothing(0.5)) == plan.nothing(0.5)
        # Format 1 of the journal has no first look.
        if plan.name == GroupSequential.name and known.looks:
            assert recompute(replace(known, first_look=0)) == replace(known, first_look=0)


def test_a_label_aware_run_says_which_votes() -> None:
    # A wrong label stops the image after its selection votes; a right one changes nothing.
    plan = GroupSequential(10, 1000, label_aware=True)
    assert reanalyse(play(plan, 0.9, label=1), 1e-3) == play(plan, 0.9, label=1)


def test_a_prediction_of_a_class_of_any_number() -> None:
    plan = MajorityVote(n=100)
    run = plan.start(0.5, 2)
    run.update(np.array([1, 99]))
    large = 2**52
    certificate = replace(
        run.certificate, selected=large, prediction=large, estimation_counts=((0, 1), (large, 99))
    )
    assert recompute(certificate) == certificate
