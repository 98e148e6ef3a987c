"""The certificate that votes give, computed again: at their own failure probability, or another."""

import math
from dataclasses import fields, replace

import numpy as np

from diffsmooth.stats.bounds import certified_radius, lower_confidence_bound
from diffsmooth.stats.certificate import ABSTAIN, Certificate, SparseCounts, Status
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote
from diffsmooth.stats.prediction import predict_from_counts

# SciPy's versions differ in the last digits of a quantile, and radii were once computed with a
# sigma that was larger than the noise's by a float32's rounding.
TOLERANCES = {"p_lower": 1e-9, "radius": 1e-6, "max_radius": 1e-6}


def recompute(certificate: Certificate) -> Certificate:
    """The certificate that the votes of a stored one give: nothing that follows is believed.

    Raises:
        ValueError: the stored one says what its votes do not; votes that its plan cannot have
            asked for; an unknown plan.
    """
    _check_plan(certificate)
    again = _conclude(certificate, certificate.alpha)
    if _differs(certificate, again, "max_radius") and not certificate.looks:
        # Without a look, format 1 of the journal does not tell that one look was planned.
        again = _conclude(certificate, certificate.alpha, certificate.max_n)
    for field in fields(Certificate):
        if _differs(certificate, again, field.name):
            stored, found = getattr(certificate, field.name), getattr(again, field.name)
            raise ValueError(f"{field.name} is {stored!r}, but the votes give {found!r}")
    return again


def _check_plan(certificate: Certificate) -> None:
    """Raises ValueError for what a plan of that kind does not have."""
    grid, tolerance = certificate.grid, certificate.tolerance
    if certificate.plan != GroupSequential.name:
        if grid or certificate.first_look or tolerance is not None:
            raise ValueError(
                f"a grid, a first look or a tolerance, but the plan {certificate.plan}"
            )
    elif list(grid) != sorted(set(grid)) or bool(grid) == (tolerance is not None):
        raise ValueError(f"grid is {grid} with tolerance {tolerance}: a plan has one of the two")
    elif tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, not in (0, 1)")


def _differs(stored: Certificate, found: Certificate, name: str) -> bool:
    values = getattr(stored, name), getattr(found, name)
    if name in TOLERANCES:
        return not math.isclose(*values, rel_tol=TOLERANCES[name], abs_tol=1e-12)
    return values[0] != values[1]


def reanalyse(certificate: Certificate, alpha: float, first_look: int | None = None) -> Certificate:
    """The certificate at failure probability `alpha` of the votes that were cast.

    Votes cannot be added: where a plan stopped early, it stopped by its own alpha, and at a smaller
    one more votes could have certified more. The guarantee holds for an alpha that was chosen
    without a look at what it gives.

    Args:
        certificate: of any plan; one without votes keeps its status.
        alpha: failure probability, in (0, 1).
        first_look: of a sequential plan, for an image without votes that does not tell it.

    Raises:
        ValueError: alpha out of range; or see `recompute`.
    """
    return _conclude(recompute(certificate), alpha, first_look)


def _conclude(certificate: Certificate, alpha: float, first_look: int | None = None) -> Certificate:
    """What a certificate's votes give at `alpha`, all else left alone."""
    if certificate.plan == MajorityVote.name:
        return _predict(certificate, alpha)
    plan = _plan_of(certificate, alpha, first_look)
    again = replace(certificate, alpha=alpha, max_radius=plan.nothing(certificate.sigma).max_radius)
    if certificate.status == "failed":
        return _without_votes(again)
    selection, estimation = certificate.selection_counts, certificate.estimation_counts
    selected, n = _most_voted(selection), _total(estimation)
    _check_looks(certificate, plan, dict(estimation).get(selected, 0), n)
    p_lower = _p_lower(certificate, plan)
    certified = p_lower > 0.5
    status: Status = "certified" if certified else "abstained" if n else "skipped"
    return replace(
        again,
        status=status,
        prediction=selected if certified else ABSTAIN,
        radius=certified_radius(p_lower, certificate.sigma),
        p_lower=p_lower,
        n0=_total(selection),
        n=n,
        votes=_total(selection) + n,
        selected=selected,
    )


def _predict(certificate: Certificate, alpha: float) -> Certificate:
    again = replace(certificate, alpha=alpha, max_radius=0.0)
    if certificate.status == "failed":
        return _without_votes(again)
    votes = dict(certificate.estimation_counts)
    selected, n = _most_voted(certificate.estimation_counts), _total(certificate.estimation_counts)
    if n != certificate.max_n or tuple(certificate.looks) != ((n, votes[selected]),):
        raise ValueError(f"{n} votes and looks {certificate.looks}, {certificate.max_n} were asked")
    # Those that got votes, ascending, whatever their numbers are, and one that got none.
    place = predict_from_counts(np.array([*votes.values(), 0], dtype=np.int64), alpha)
    prediction = ABSTAIN if place == ABSTAIN else [*votes][place]
    status: Status = "abstained" if prediction == ABSTAIN else "answered"
    return replace(
        again,
        status=status,
        prediction=prediction,
        radius=0.0,
        p_lower=0.0,
        n0=0,
        n=n,
        votes=n,
        selected=selected,
        selection_counts=(),
    )


def _without_votes(certificate: Certificate) -> Certificate:
    """What is known of an image whose votes could not be cast."""
    given = {"sigma", "alpha", "plan", "max_n", "max_radius", "grid", "first_look", "tolerance"}
    return Certificate(**{name: getattr(certificate, name) for name in given})


def _plan_of(
    certificate: Certificate, alpha: float, first_look: int | None = None
) -> FixedSampleSize | GroupSequential:
    if certificate.plan == FixedSampleSize.name:
        return FixedSampleSize(n=certificate.max_n, alpha=alpha)
    if certificate.plan == GroupSequential.name:
        first = certificate.first_look or first_look or GroupSequential.first_look
        if certificate.looks and not certificate.first_look:
            first = certificate.looks[0].n
        return GroupSequential(n=certificate.max_n, alpha=alpha, first_look=first)
    raise ValueError(f"plan {certificate.plan!r} is not known")


def _check_looks(
    certificate: Certificate, plan: FixedSampleSize | GroupSequential, successes: int, n: int
) -> None:
    """Raises ValueError for looks that the plan cannot have had, or that are of other votes."""
    looks = certificate.looks
    planned = (plan.n,) if isinstance(plan, FixedSampleSize) else plan.looks
    if tuple(look.n for look in looks) != planned[: len(looks)]:
        raise ValueError(f"looks at other votes than those of the plan {plan.name}")
    if isinstance(plan, FixedSampleSize) and not looks:
        raise ValueError("there are no votes, but no error either")
    steps = zip(((0, 0), *looks), looks, strict=False)
    if not all(0 <= new[1] - old[1] <= new[0] - old[0] for old, new in steps):
        raise ValueError(f"looks whose successes cannot follow each other: {looks}")
    if (n, successes) != (tuple(looks[-1]) if looks else (0, 0)):
        raise ValueError("the votes at the last look are not those that were counted")


def _p_lower(certificate: Certificate, plan: FixedSampleSize | GroupSequential) -> float:
    """The largest bound of the looks, each at the level that it has in the plan."""
    levels = (plan.alpha,) if isinstance(plan, FixedSampleSize) else plan.levels
    bounds = (
        lower_confidence_bound(look.successes, look.n, level)
        for look, level in zip(certificate.looks, levels, strict=False)
    )
    return max(bounds, default=0.0)


def _most_voted(counts: SparseCounts) -> int:
    """The class of the most votes, the first of several."""
    if not counts:
        raise ValueError("there are no votes, but no error either")
    classes = [k for k, _ in counts]
    if classes != sorted(set(classes)) or min(votes for _, votes in counts) < 1:
        raise ValueError(f"counts must be of some votes, by ascending class, got {counts}")
    return max(counts, key=lambda pair: (pair[1], -pair[0]))[0]


def _total(counts: SparseCounts) -> int:
    return sum(votes for _, votes in counts)
