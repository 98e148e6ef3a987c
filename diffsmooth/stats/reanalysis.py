"""The certificate that the same votes give at another failure probability, without the model."""

import math
from dataclasses import replace

import numpy as np

from diffsmooth.stats.bounds import certified_radius, lower_confidence_bound
from diffsmooth.stats.certificate import ABSTAIN, Certificate, Status
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.plans import FixedSampleSize, MajorityVote
from diffsmooth.stats.prediction import predict_from_counts


def reanalyse(certificate: Certificate, alpha: float, first_look: int | None = None) -> Certificate:
    """The certificate at failure probability `alpha` of the votes that were cast.

    Votes cannot be added: where a plan stopped early, it stopped by its own alpha, and at a smaller
    one more votes could have certified more. The guarantee holds for an alpha that was chosen
    without a look at what it gives.

    Args:
        certificate: of any plan; one without votes keeps its status.
        alpha: failure probability, in (0, 1).
        first_look: of a sequential plan, for an image without votes, which do not tell it.

    Raises:
        UserError: alpha out of range; an unknown plan; or votes that do not give the certificate's
            own bound at its own alpha, so that they are not of the plan that it names.
    """
    if certificate.plan == MajorityVote.name:
        return _predict_again(certificate, alpha)
    votes = dict(certificate.estimation_counts)
    if certificate.looks and votes.get(certificate.selected, 0) != certificate.looks[-1].successes:
        raise UserError("the votes at the last look are not those that were counted")
    known = _p_lower(certificate, certificate.alpha)
    if not math.isclose(known, certificate.p_lower, rel_tol=1e-9, abs_tol=1e-12):
        raise UserError(
            f"the votes give the bound {known:.9g} at alpha {certificate.alpha:g}, not "
            f"{certificate.p_lower:.9g}: they are not of the plan {certificate.plan}"
        )
    p_lower = _p_lower(certificate, alpha)
    again = replace(
        certificate,
        alpha=alpha,
        max_radius=_plan_of(certificate, alpha, first_look).nothing(certificate.sigma).max_radius,
        p_lower=p_lower,
    )
    if certificate.status in ("skipped", "failed"):
        return again
    certified = p_lower > 0.5
    return replace(
        again,
        status="certified" if certified else "abstained",
        prediction=certificate.selected if certified else ABSTAIN,
        radius=certified_radius(p_lower, certificate.sigma),
    )


def _plan_of(
    certificate: Certificate, alpha: float, first_look: int | None = None
) -> FixedSampleSize | GroupSequential:
    if certificate.plan == FixedSampleSize.name:
        return FixedSampleSize(n=certificate.max_n, alpha=alpha)
    if certificate.plan == GroupSequential.name:
        first = first_look or GroupSequential.first_look
        if certificate.looks:
            first = certificate.looks[0].n
        return GroupSequential(n=certificate.max_n, alpha=alpha, first_look=first)
    raise UserError(f"plan {certificate.plan!r} is not known")


def _p_lower(certificate: Certificate, alpha: float) -> float:
    """The largest bound of the looks, each at the level that it has at `alpha`."""
    plan = _plan_of(certificate, alpha)
    if isinstance(plan, FixedSampleSize):
        levels = {plan.n: alpha}
    else:
        levels = dict(zip(plan.looks, plan.levels, strict=True))
    if not {look.n for look in certificate.looks} <= levels.keys():
        raise UserError(f"looks at other votes than those of the plan {certificate.plan}")
    return max((lower_confidence_bound(s, n, levels[n]) for n, s in certificate.looks), default=0.0)


def _predict_again(certificate: Certificate, alpha: float) -> Certificate:
    if certificate.status == "failed":
        return replace(certificate, alpha=alpha)
    votes = dict(certificate.estimation_counts)
    counts = np.array([votes.get(k, 0) for k in range(max(votes) + 2)])  # two classes at least
    prediction = predict_from_counts(counts, alpha)
    status: Status = "abstained" if prediction == ABSTAIN else "answered"
    return replace(certificate, alpha=alpha, status=status, prediction=prediction)
