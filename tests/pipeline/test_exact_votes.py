"""Bounds computed again: against enumeration, against SciPy, and against bounds that are wrong."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from diffsmooth.pipeline import exact_votes
from diffsmooth.pipeline.exact_votes import (
    ExactPlan,
    answer_fault,
    bound_fault,
    largest_radius_fault,
    mp,
    radius_fault,
    tail,
)
from diffsmooth.stats import FixedSampleSize, GroupSequential, MajorityVote
from diffsmooth.stats.bounds import (
    certified_radius,
    largest_radius,
    lower_confidence_bound,
    predict_from_counts,
)


def test_the_tail_is_the_sum_over_all_outcomes() -> None:
    for n, p in product((1, 2, 7), (Fraction(1, 3), Fraction(9, 10), Fraction(1, 2**40))):
        for s in range(n + 2):
            whole = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(s, n + 1))
            found = tail(s, n, p)
            assert abs(found - mp.mpf(whole.numerator) / whole.denominator) < mp.mpf(10) ** -40


@pytest.mark.parametrize("n", [10**3, 10**5, 10**7])
@pytest.mark.parametrize("share", [0.51, 0.9, 0.9999])
def test_the_tail_is_that_of_scipy(n: int, share: float) -> None:
    for s in (int(n * share) - 5, int(n * share), n - 1):
        assert float(tail(s, n, Fraction(share))) == pytest.approx(
            binom.sf(s - 1, n, share), rel=1e-7
        )


@given(
    n=st.integers(10**5, 10**9),
    others=st.just(999) | st.integers(1, 20_000),
    alpha=st.sampled_from([1e-6, 1e-4, 8e-4, 1e-3, 0.01, 0.05]),
)
@settings(max_examples=60)
def test_bounds_of_very_many_votes_are_right_where_scipys_inverse_is_not(
    n: int, others: int, alpha: float
) -> None:
    s = n - others
    bound = lower_confidence_bound(s, n, alpha)
    assert bound_fault(bound, ((n, s),), (mp.mpf(alpha),)) == ""
    assert tail(s, n, Fraction(bound)) <= alpha


@pytest.mark.parametrize("case", [(2, 3, 6.9e-318), (61, 86, 4.7e-306), (2, 4, 1e-310)])
def test_levels_that_floats_hardly_tell_from_zero_certify_nothing(
    case: tuple[int, int, float],
) -> None:
    s, n, alpha = case
    assert tail(s, n, Fraction(lower_confidence_bound(s, n, alpha))) <= alpha


counts = st.integers(1, 10**4).flatmap(
    lambda n: st.tuples(st.sampled_from([n, max(n - 1, 0)]) | st.integers(0, n), st.just(n))
)
levels = st.floats(1e-30, 0.6) | st.sampled_from([1e-3, 0.05, 1e-100])


@given(votes=counts, level=levels, sigma=st.floats(1e-3, 10) | st.sampled_from([0.12, 0.25]))
def test_what_the_suite_computes_is_found_right_and_hardly_more(
    votes: tuple[int, int], level: float, sigma: float
) -> None:
    s, n = votes
    looks, bounds = ((n, s),), (mp.mpf(level),)
    p = lower_confidence_bound(s, n, level)
    radius = certified_radius(p, sigma)
    assert bound_fault(p, looks, bounds) == ""
    assert radius_fault(radius, p, sigma) == ""
    plan = ExactPlan("fixed", 1, n, level)
    assert largest_radius_fault(largest_radius(sigma, n, level), plan, sigma) == ""
    step = 1e-11 * min(p, 1 - p) + 2**-51
    assert "more than its votes prove" in bound_fault(p + step, looks, bounds)
    if p > step:
        assert "less than its votes prove" in bound_fault(p - step, looks, bounds)
    for share in (1 - 2**-46, 1 + 2**-47):
        assert (radius_fault(radius * share, p, sigma) == "") == (radius == 0)


@given(votes=counts, level=levels)
def test_no_float_above_the_exact_bound_is_let_through_not_even_by_its_last_bit(
    votes: tuple[int, int], level: float
) -> None:
    """The largest float whose tail is at most the level, found by halves; the next is caught."""
    s, n = votes
    assume(s)
    least, most = 0.0, 1.0
    while math.nextafter(least, 1) < most:
        middle = (least + most) / 2
        if tail(s, n, Fraction(middle)) <= level:
            least = middle
        else:
            most = middle
    looks, bounds = ((n, s),), (mp.mpf(level),)
    assert "more than its votes prove" in bound_fault(most, looks, bounds)
    if least > 0.5:
        radius = float(mp.sqrt(2) * mp.erfinv(2 * mp.mpf(least) - 1))
        while mp.ncdf(mp.mpf(radius)) <= least:
            radius = math.nextafter(radius, 9)
        assert "p_lower gives" in radius_fault(radius, least, 1.0)


MUTANTS: dict[str, Callable[[int, int, float], float]] = {
    "not lowered": lambda s, n, a: float(np.nextafter(exact_bound(s, n, a), 1)),
    "two-sided": lambda s, n, a: lower_confidence_bound(s, n, a / 2),
    "twice alpha": lambda s, n, a: lower_confidence_bound(s, n, 2 * a),
    "a vote more": lambda s, n, a: lower_confidence_bound(min(s + 1, n), n, a / (1 + (s == n))),
    "the share": lambda s, n, a: s / n,
    "normal": lambda s, n, a: s / n - 3.09 * math.sqrt(s / n * (1 - s / n) / n),
    "Hoeffding": lambda s, n, a: max(0.0, s / n - math.sqrt(math.log(1 / a) / (2 * n))),
    "float32": lambda s, n, a: float(np.float32(lower_confidence_bound(s, n, a))),
}


def exact_bound(s: int, n: int, level: float) -> float:
    p = Fraction(lower_confidence_bound(s, n, level))
    return float(p + exact_votes.lowering(p))


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize(("s", "n"), [(97, 100), (9_990, 10_000), (60_001, 100_000)])
def test_bounds_that_are_wrong_are_caught(name: str, s: int, n: int) -> None:
    bound = MUTANTS[name](s, n, 0.001)
    assert bound_fault(bound, ((n, s),), (mp.mpf(0.001),)) != ""


@pytest.mark.parametrize("sigma", [0.12, 0.3])  # float32 makes less of the one, more of the other
def test_a_radius_counts_the_smaller_of_sigma_and_what_float32_makes_of_it(sigma: float) -> None:
    p = 0.99
    assert radius_fault(certified_radius(p, sigma), p, sigma) == ""
    larger = max(sigma, float(np.float32(sigma)))
    assert "p_lower gives" in radius_fault(certified_radius(p, 1.0) * larger, p, sigma)


@given(
    n=st.integers(1, 2000), first=st.integers(1, 300),
    alpha=st.sampled_from([0.001, 0.05, 1e-12]), data=st.data(),
)  # fmt: skip
def test_looks_and_levels_are_those_of_the_sequential_plan(
    n: int, first: int, alpha: float, data: st.DataObject
) -> None:
    plan = GroupSequential(n0=10, n=n, alpha=alpha, first_look=first)
    exact = ExactPlan.of_text(str(plan))
    looks, bounds = exact.with_levels()
    assert looks == plan.looks
    assert [float(level) for level in bounds] == pytest.approx(plan.levels, rel=1e-14)
    assert mp.fsum(bounds) <= alpha * (1 + mp.mpf(10) ** -40)
    assert exact.fields == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(plan.nothing(0.5)).items()
        if name in exact.fields
    }
    some = data.draw(st.integers(1, len(looks)))
    votes = np.random.default_rng(n).random(looks[some - 1]) < data.draw(st.floats(0.3, 1))
    seen = tuple((size, int(votes[:size].sum())) for size in looks[:some])
    p = max(
        lower_confidence_bound(s, size, level)
        for (size, s), level in zip(seen, plan.levels, strict=False)
    )
    assert bound_fault(p, seen, bounds) == ""
    assert largest_radius_fault(plan.nothing(0.5).max_radius, exact, 0.5) == ""
    if p > 0.01 and some > 1:  # one look alone, as if it were the only one
        alone = lower_confidence_bound(seen[-1][1], seen[-1][0], alpha)
        assert (bound_fault(alone, seen, bounds) == "") == (alone == p)


@given(st.lists(st.integers(0, 300), min_size=2, max_size=5), st.sampled_from([0.001, 0.05, 0.5]))
def test_answers_are_those_of_the_binomial_test(votes: list[int], alpha: float) -> None:
    answered = predict_from_counts(np.array(votes), alpha) >= 0
    assert answer_fault(answered, votes, alpha) == ""
    second, top = sorted(votes)[-2:]
    p_value = binomtest(top, top + second).pvalue if top + second else 1.0
    if abs(p_value - alpha) > 1e-9:
        assert answer_fault(not answered, votes, alpha) != ""


@pytest.mark.parametrize(
    "text",
    [
        "FixedSampleSize(n0=1, n=0, alpha=0.1)", "FixedSampleSize(n0=1, n=9, alpha=1.5)", "", "x",
        "FixedSampleSize(n0=1, n=9, alpha=0.1", "Other(n=3)", "FixedSampleSize(n=9.0, alpha=0.1)",
        "FixedSampleSize(9, 9, 0.1)", "GroupSequential(n0=1, n=9, alpha=0.1, first_look=0)",
        "__import__('os').abort()", "FixedSampleSize(n=9, alpha=__import__('os').abort())", None, 3,
        "FixedSampleSize(n=" + "(" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"plan .*is none that can be checked"):
        ExactPlan.of_text(text)


@pytest.mark.parametrize(
    "plan", [FixedSampleSize(), MajorityVote(), GroupSequential(tolerance=0.1)]
)
def test_plans_are_known_by_their_texts(
    plan: FixedSampleSize | MajorityVote | GroupSequential,
) -> None:
    exact = ExactPlan.of_text(str(plan))
    assert (exact.word, exact.n0, exact.n) == (plan.name, plan.n0, plan.n)
    assert (exact.alpha, exact.with_levels()[0]) == (plan.alpha, plan.looks)
