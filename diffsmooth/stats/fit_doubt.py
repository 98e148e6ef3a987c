"""By how much a forecast may be wrong because a pilot's votes leave open how its shares lie.

`ShareModel` is fitted to the pilot, and other models fit it nearly as well: where all images had
all votes, it might be that all have a share of 1, or that one in 10,000 votes goes elsewhere. So
the mean votes of an image are computed for a grid of models, each weighted by its likelihood.
"""

from collections.abc import Iterator

import numpy as np

from diffsmooth.stats.many_plays import play
from diffsmooth.stats.pilot import PilotImage, ShareModel
from diffsmooth.stats.plans import Plan

# Shares p by Phi^-1(p), in cells of this width; what lies beyond costs as the last cell does.
WIDTH, LOWEST, HIGHEST = 0.02, -4.5, 6.5
PLAYS = 60  # of the plan in each cell: their noise is nearly the same for all models
# Models by log (a / b), which the votes tell best, log b, and the certain part c by arcsin sqrt(c):
# the lowest, the highest, and how many. By equal steps, as in a prior that is flat in the first two
# and Jeffreys' in the third.
GRID = ((-8.0, 16.0, 25), (-7.0, 7.0, 21), (0.0, np.pi / 2, 17))
PASSES = 3  # each looks closer at the part of the grid that is as likely as this:
AS_LIKELY = 1e-4
ROWS = 1000  # of the pilot's distinct images that are in memory at once


def fit_error(
    images: list[PilotImage],
    model: ShareModel,
    plan: Plan,
    sigma: float,
    rng: np.random.Generator,
) -> float:
    """Root mean square error of the mean votes of an image, over models given the pilot.

    That is beside the error of finitely many images. A class is taken to be selected as it was.

    Args:
        images: the pilot's images, (M,).
        model: that was fitted to them.
        plan: the plan of the run to come.
        sigma: noise level of both, in [0, 1] pixel units.
        rng: generator of the plays.
    """
    if plan.stopping_rule(sigma, 0) is None:
        return 0.0
    told = _Told(images, plan, sigma, rng)
    _, fitted = told.of(np.array([[model.a, model.b]]), np.array([model.certain]))
    axes = [np.linspace(low, high, count) for low, high, count in GRID]
    for _ in range(PASSES):
        odds, logs, angles = axes
        models = np.exp([(o + b, b) for o in odds for b in logs])
        likelihood, total = told.of(models, np.sin(angles) ** 2)
        weights = np.where(np.isfinite(likelihood) & np.isfinite(total), likelihood, -np.inf)
        weights = np.exp(weights - weights.max()).reshape(len(angles), len(odds), len(logs))
        squares = np.nan_to_num(np.square(total - fitted)).reshape(weights.shape)
        axes = [
            _closer(axis, weights.max(axis=others))
            for axis, others in zip(axes, ((0, 2), (0, 1), (1, 2)), strict=True)
        ]
    return float(np.sqrt(np.average(squares, weights=weights))) / len(images)


def _closer(axis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """As many points between those that are next to the likely ones."""
    likely = np.flatnonzero(weights >= AS_LIKELY)
    ends = max(0, likely[0] - 1), min(len(axis) - 1, likely[-1] + 1)
    return np.linspace(axis[ends[0]], axis[ends[1]], len(axis))


class _Told:
    """What a pilot's votes tell of models of its shares, and what the models make of it.

    Args:
        images, plan, sigma, rng: see `fit_error`.
    """

    def __init__(
        self,
        images: list[PilotImage],
        plan: Plan,
        sigma: float,
        rng: np.random.Generator,
    ) -> None:
        from scipy.special import log_ndtr, ndtr  # slow: not for help and mistakes

        self._edges = np.array([-np.inf, *np.arange(LOWEST, HIGHEST + WIDTH / 2, WIDTH), np.inf])
        inner = self._edges[1:-1]
        middles = np.concatenate([inner[:1], (inner[:-1] + inner[1:]) / 2, inner[-1:]])
        shares = np.append(ndtr(middles), 1.0)  # the cells', and 1
        costs = play(plan, sigma, np.repeat(shares, PLAYS), rng).reshape(-1, PLAYS)
        self._cost = costs.mean(axis=1)
        self._log_p = np.append(log_ndtr(middles), 0.0)
        self._log_q = np.append(log_ndtr(-middles), -np.inf)
        self._votes = list(_distinct(images, plan.label_aware))

    def of(self, models: np.ndarray, certain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logarithm of the likelihood, and the votes of all images together, (C, T) each.

        Args:
            models: a and b, (T, 2).
            certain: parts of images whose share is 1, (C,).
        """
        cells, cost = _cells(models, self._edges).T, self._cost
        likelihood = np.zeros((len(certain), len(models)))
        total = np.zeros_like(likelihood)
        for count, played, votes in self._votes:
            chance = _chances(votes, self._log_p, self._log_q)
            spread, spread_cost = chance[:, :-1] @ cells, (chance[:, :-1] * cost[:-1]) @ cells
            sure = chance[:, -1:]
            for c, part in enumerate(certain):
                whole = (1 - part) * spread + part * sure
                with np.errstate(divide="ignore", invalid="ignore"):  # models that cannot be
                    likelihood[c] += count @ np.log(whole)
                    means = ((1 - part) * spread_cost + part * sure * cost[-1]) / whole
                    total[c] += played @ means
        return likelihood, total


def _cells(models: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The part of each Beta distribution (T, 2) in each cell, float64 (T, G)."""
    from scipy.special import betainc, ndtr  # slow: not for help and mistakes

    a, b = models[:, :1], models[:, 1:]
    below, above = betainc(a, b, ndtr(edges)), betainc(b, a, ndtr(-edges))
    # By the side on which nothing cancels out.
    low = below[:, 1:] < 0.5
    return np.clip(np.where(low, np.diff(below, axis=1), -np.diff(above, axis=1)), 0.0, 1.0)


def _distinct(
    images: list[PilotImage], label_aware: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """How many images had the same votes, (U,), how many of these are played, and the votes.

    A label-aware plan gives the others up: they cost what they cost. The votes are n and successes,
    integers (U, 2).
    """
    given_up = [label_aware and image.selected != image.label for image in images]
    everything = np.array([(image.n, image.successes) for image in images])
    votes, places = np.unique(everything, axis=0, return_inverse=True)
    count = np.bincount(places).astype(np.float64)
    played = np.bincount(places, weights=~np.array(given_up))
    for first in range(0, len(votes), ROWS):
        rows = slice(first, first + ROWS)
        yield count[rows], played[rows], votes[rows]


def _chances(votes: np.ndarray, log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Of votes (U, 2) by each cell's share, but for a factor of each row; (U, G)."""
    n, successes = votes[:, :1], votes[:, 1:]
    lost = n - successes
    logs = successes * log_p + np.where(lost > 0, lost * np.maximum(log_q, -1e300), 0.0)
    return np.exp(logs - logs.max(axis=1, keepdims=True))
