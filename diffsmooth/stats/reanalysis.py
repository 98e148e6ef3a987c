"""The certificate that votes give, computed again: at their own failure probability, or another."""

import math
from dataclasses import fields, replace

from diffsmooth.stats.certificate import Certificate, Votes
from diffsmooth.stats.plan_words import kind_of

# SciPy's versions differ in the last digits of a quantile, and radii were once computed with a
# sigma that was larger than the noise's by a float32's rounding.
TOLERANCES = {"p_lower": 1e-9, "radius": 1e-6, "max_radius": 1e-6}


def recompute(certificate: Certificate) -> Certificate:
    """The certificate that the votes of a stored one give: nothing that follows is believed.

    Raises:
        ValueError: the stored one says what its votes do not; votes that its plan cannot have
            asked for; an unknown plan.
    """
    again = _conclude(certificate, certificate.alpha)
    for field in fields(Certificate):
        stored, found = getattr(certificate, field.name), getattr(again, field.name)
        alike = stored == found
        if field.name in TOLERANCES:
            alike = math.isclose(stored, found, rel_tol=TOLERANCES[field.name], abs_tol=1e-12)
        if not alike:
            raise ValueError(f"{field.name} is {stored!r}, but the votes give {found!r}")
    stopped = again.n < again.max_n and again.status not in ("failed", "skipped")
    if stopped and not again.grid and again.tolerance is None:
        raise ValueError(f"the plan {again.plan} stopped early, and does not say for which radii")
    return again


def reanalyse(certificate: Certificate, alpha: float) -> Certificate:
    """The certificate at failure probability `alpha` of the votes that were cast.

    Votes cannot be added: where a plan stopped early, it stopped by its own alpha, and at a smaller
    one more votes could have certified more. The guarantee holds for an alpha that was chosen
    without a look at what it gives.

    Args:
        certificate: a certificate of any plan; one without votes keeps its status.
        alpha: failure probability, in (0, 1).

    Raises:
        ValueError: alpha out of range; or see `recompute`.
    """
    recompute(certificate)
    return _conclude(certificate, alpha)


def _conclude(certificate: Certificate, alpha: float) -> Certificate:
    plan = kind_of(certificate.plan).of_certificate(certificate, alpha)
    votes = Votes(certificate.selection_counts, certificate.estimation_counts, certificate.looks)
    failed, sigma = certificate.status == "failed", certificate.sigma
    again = plan.nothing(sigma) if failed else plan.conclude(sigma, votes)
    # Format 1 of the journal does not tell the first look, though the others may.
    return again if certificate.first_look else replace(again, first_look=0)
