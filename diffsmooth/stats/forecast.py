"""What a run would cost: votes an image, from a pilot run, and the load of many workers."""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.errors import UserError
from diffsmooth.stats.fit_doubt import fit_error
from diffsmooth.stats.many_plays import play
from diffsmooth.stats.pilot import PilotImage, fit_shares, select
from diffsmooth.stats.plans import Plan

PLAYS = 100_000  # of the plan, over all images of the pilot, at least


class Estimate(NamedTuple):
    """Attributes: the mean, and its standard error (infinite where one draw tells nothing)."""

    mean: float
    error: float


def forecast_votes(
    images: list[PilotImage],
    plan: Plan,
    sigma: float,
    rng: np.random.Generator,
    plays: int = PLAYS,
) -> np.ndarray:
    """Votes that a plan would take for each of a pilot's images, several times over.

    Each time, the share of the image's class is drawn from what its votes say of it beside those of
    all other images (`ShareModel`), the class is selected by fresh votes, and the plan is played.

    Args:
        images: the pilot's images, (M,).
        plan: the plan of the run to come.
        sigma: noise level of both, in [0, 1] pixel units.
        rng: generator of the draws.
        plays: at least so many in all.

    Returns:
        int64 (M, copies).

    Raises:
        UserError: a plan that needs labels, which the pilot does not have.
    """
    if plan.label_aware and any(image.label is None for image in images):
        raise UserError("a label-aware plan needs labels, and the pilot has none")
    copies = math.ceil(plays / len(images))
    shares = fit_shares(images).draw(images, copies, rng)
    skipped = np.zeros(shares.shape, dtype=bool)
    for i, image in enumerate(images):
        selected, shares[i] = select(image, shares[i], plan.n0, rng)
        skipped[i] = plan.label_aware & (selected != image.label)
    votes = np.full(shares.shape, plan.n0, dtype=np.int64)
    votes[~skipped] += play(plan, sigma, shares[~skipped], rng)
    return votes


def forecast_average(
    votes: np.ndarray,
    images: list[PilotImage],
    plan: Plan,
    sigma: float,
    rng: np.random.Generator,
) -> Estimate:
    """What an image takes on average, with the error by the images and by the fit.

    The former is of both the finite pilot and the finite simulation: the means of the M images
    scatter by either. (A bootstrap over images has the same error, but for its own noise. It cannot
    tell what no image of the pilot shows: of images that are all unanimous it is none.)

    Args:
        votes: what `forecast_votes` gives by the other arguments.
        rng: its state stays as it is; the plays of the error take a generator that it spawns.
    """
    (own,) = rng.spawn(1)
    mean, error = estimate(votes.mean(axis=1))
    doubt = fit_error(images, fit_shares(images), plan, sigma, own)
    return Estimate(mean, math.hypot(error, doubt))


def estimate(values: np.ndarray) -> Estimate:
    """The mean of independent values (R,)."""
    if len(values) < 2:
        return Estimate(float(values.mean()), math.inf)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))


class Loads(NamedTuple):
    """Of some workers in each of R simulated runs; float64 (R,) each, in votes.

    Attributes:
        mean: mean load of a worker.
        queue: longest load, where whoever is free takes the next image.
        striped: longest load, where worker i does images i, i + workers, ...
    """

    mean: np.ndarray
    queue: np.ndarray
    striped: np.ndarray


def simulate_loads(
    votes: np.ndarray,
    images: int,
    workers: Sequence[int],
    repetitions: int,
    rng: np.random.Generator,
) -> list[Loads]:
    """Loads in runs of so many images, for each number of workers.

    Args:
        votes: int64 (M, copies), see `forecast_votes`; an image of a run takes any of them.
        images: number of images of a run, at least 1.
        workers: numbers of workers, each at least 1.
        repetitions: R, at least 1.
        rng: generator of the draws.
    """
    found = np.empty((len(workers), 3, repetitions))
    for r in range(repetitions):
        costs = votes.flat[rng.integers(votes.size, size=images)]
        for i, count in enumerate(workers):
            loads = costs.sum() / count, queue_load(costs, count), striped_load(costs, count)
            found[i, :, r] = loads
    return [Loads(*of_count) for of_count in found]


def striped_load(costs: np.ndarray, workers: int) -> float:
    """The longest of the workers' sums, where worker i does images i, i + workers, ..."""
    rounds = -(-len(costs) // workers)
    padded = np.pad(costs, (0, rounds * workers - len(costs)))
    return float(padded.reshape(rounds, workers).sum(axis=0).max())


def queue_load(costs: np.ndarray, workers: int) -> float:
    """The longest of the workers' sums, where whoever is free takes the next image."""
    if workers == 1:
        return float(costs.sum())
    if workers >= len(costs):
        return float(costs.max())
    ends = [0] * workers
    for cost in costs.tolist():
        heapq.heapreplace(ends, ends[0] + cost)
    return float(max(ends))
