"""What a run would cost: votes an image, from a pilot run, and the load of many workers."""

import heapq
from collections.abc import Iterable

import numpy as np

from diffsmooth.stats.certificate import Certificate
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plans import Plan


def forecast_votes(
    pilot: Iterable[Certificate], plan: Plan, images: int, rng: np.random.Generator
) -> np.ndarray:
    """Votes that a plan would take for images like those of a pilot run; int64 (images,).

    Each image is one of the pilot's at random; its class's probability is drawn from what the
    pilot's votes say of it (the Beta posterior of Jeffreys' prior), and the plan is played.

    Args:
        pilot: with estimation votes.
        plan: of the run to come; sigma is the pilot's.
        images: at least 1.
        rng: of the draws.

    Raises:
        UserError: no certificate of the pilot has estimation votes.
    """
    usable = [certificate for certificate in pilot if certificate.looks]
    if not usable:
        raise UserError("the pilot has no estimation votes")
    votes = np.empty(images, dtype=np.int64)
    for i, choice in enumerate(rng.integers(len(usable), size=images)):
        certificate = usable[choice]
        n, successes = certificate.looks[-1]
        p = rng.beta(successes + 0.5, n - successes + 0.5)
        votes[i] = _play(plan, certificate.sigma, p, rng)
    return votes


def _play(plan: Plan, sigma: float, p: float, rng: np.random.Generator) -> int:
    """Votes of one image; the selection finds the class, and so does the label."""
    run = plan.start(sigma, 2, label=0)
    run.update(np.array([run.wanted, 0]))
    while wanted := run.wanted:
        successes = rng.binomial(wanted, p)
        run.update(np.array([successes, wanted - successes]))
    return run.certificate.votes


def striped_load(costs: np.ndarray, workers: int) -> float:
    """The longest of the workers' sums, where worker i does images i, i + workers, ..."""
    return float(max(costs[i::workers].sum() for i in range(workers)))


def queue_load(costs: np.ndarray, workers: int) -> float:
    """The longest of the workers' sums, where whoever is free takes the next image."""
    ends = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + float(cost))
    return max(ends)
