"""Sequential plans that decide one radius, ours and the peers', as what they stop at.

A radius r is certified where the selected class's probability p is at least p_r = Phi(r / sigma). Each
plan here looks at the votes, certifies from some number of successes on, gives up from some number
downwards, and asks for more in between: a `Stage`. What it then does to an image of any p is
computed exactly (`stopping_points`), and so drawn from without drawing votes one by one.

Ours is not written again: `group_sequential` asks the tool's own rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import binom

from diffsmooth.stats import GroupSequential
from diffsmooth.stats.bounds import votes_needed
from diffsmooth.stats.many_plays import StoppingRule

CERTIFIED, UNDECIDED, GIVEN_UP = 1, 0, -1


class Stage(NamedTuple):
    """Looks at the votes for one selected class.

    Attributes:
        n: int64 (K,), votes at the looks, rising; after the last one the stage is over.
        give_up: int64 (K,), gives up with so many successes or fewer; -1 for never.
        certify: int64 (K,), certifies with so many or more; beyond n for never.
    """

    n: np.ndarray
    give_up: np.ndarray
    certify: np.ndarray


Stages = tuple[Stage, ...]
"""Stages of a plan: an undecided image goes on to the next with a new selection, and without its
votes. All but Horvath's have one."""


def at_least(n: np.ndarray, p: float, level: np.ndarray) -> np.ndarray:
    """The fewest successes of n whose one-sided Clopper-Pearson lower bound is p or more; int64.

    n + 1 if none is, as for level 0. By the definition of the bound: P(Binomial(n, p) >= s) <= level.
    """
    return binom.isf(level, n, p).astype(np.int64) + 1


def at_looks(n: Sequence[int] | np.ndarray, p: float, alpha: object, giving_up: object) -> Stage:
    """Clopper-Pearson bounds at given numbers of votes: certifies if the lower one is p or more,
    gives up if the upper one is less.

    Args:
        n: (K,), rising.
        p: probability that is to be reached, in (0, 1).
        alpha, giving_up: levels of the bounds, (K,) or one for all; 0 for no bound.
    """
    n = np.asarray(n, dtype=np.int64)
    return Stage(n, n - at_least(n, 1 - p, giving_up), at_least(n, p, alpha))


def fixed(p: float, n: int, alpha: float) -> Stages:
    """CERTIFY: one look. Source: Cohen et al. 2019, section 3.2.2."""
    return (at_looks([n], p, alpha, 0.0),)


def adaptive(sizes: Sequence[int], p: float, alpha: float, giving_up: float) -> Stages:
    """Adaptive sampling: each phase selects anew and bounds fresh votes; earlier ones do not count.

    Lower bounds at alpha / s, upper bounds at giving_up / (s - 1) in all phases but the last, by
    Bonferroni.

    Source: Horvath et al. 2022, adaptive sampling; levels, fresh selections and fresh votes as in the
    authors' smooth_ensemble_adaptive.py (their error of giving up, beta, is 0.0001 there).
    """
    *_, last = range(s := len(sizes))
    return tuple(
        at_looks([n], p, alpha / s, 0.0 if j == last else giving_up / (s - 1))
        for j, n in enumerate(sizes)
    )


def adaptive_kept(sizes: Sequence[int], p: float, alpha: float, giving_up: float) -> Stages:
    """The same levels, but one selection, and votes are kept from phase to phase.

    Source: Horvath et al. 2022 as Voracek 2024 ran it (core.py, certify_adaptive, where the upper
    bounds are at alpha / s, too: with alpha = giving_up that is a little less than here).
    """
    s = len(sizes)
    levels = [*[giving_up / max(1, s - 1)] * (s - 1), 0.0]
    return (at_looks(np.cumsum(sizes), p, alpha / s, levels),)


def union_bound(p: float, n: int, alpha: float, giving_up: float) -> Stages:
    """Clopper-Pearson bounds at votes that grow by 1.1, their levels 5 alpha / ((t + 4) (t + 5)).

    Look t = 1, 2, ... is at the first vote beyond 1.1^(t + 10) that has no look yet (so at each of
    the first 26 from the third on, then at growing distances). The levels of all looks to infinity
    add up to alpha: it has no last one. An image stops as soon as the next look is foregone.

    Source: Voracek 2024, algorithm 1 with the parameters of appendix C.2. The first power of 1.1 and
    the stop between looks are those of the author's thresholds.py. Its intervals are not randomized,
    as there (theorem 2.7 allows either).
    """
    looks, votes = [], 2
    while (votes := max(votes + 1, int(1.1 ** (11 + len(looks))) + 1)) <= n:
        looks.append(votes)
    t = np.arange(1, len(looks) + 1)
    share = 5 / ((t + 4) * (t + 5))
    stage = at_looks(looks, p, share * alpha, share * giving_up)
    return (_vote_by_vote(n, stage.n, stage.certify, stage.n - stage.give_up),)


def betting(p: float, n: int, alpha: float, giving_up: float) -> Stages:
    """Bets on each vote by the Krichevsky-Trofimov estimate, until the capital rules p_r out.

    It certifies when a gambler against p_r has made 1 / alpha of 1 with a share of successes above
    p_r, and gives up at 1 / giving_up with one below. There is no last vote. As with the union
    bound, an image stops as soon as what follows is foregone.

    Source: Voracek 2024, algorithm 2. The author's thresholds.py is content with 1 / (2 alpha), which
    is twice the level here.
    """
    votes = np.arange(1, n + 1)
    ruled_out = _enough_capital(votes, p, alpha), _enough_capital(votes, 1 - p, giving_up)
    return (_vote_by_vote(n, votes, *ruled_out),)


def log_capital(successes: np.ndarray, n: np.ndarray, p: float) -> np.ndarray:
    """Logarithm of what 1 has become after n votes, by bets that are fair if the share is p.

    The product of q_t / p over successes and (1 - q_t) / (1 - p) over failures, where q_t = (successes
    before + 1/2) / t. The product of the q_t is a Beta integral, and the order of votes is of no
    matter.
    """
    estimated = betaln(successes + 0.5, n - successes + 0.5) - np.log(np.pi)
    return estimated - xlogy(successes, p) - xlog1py(n - successes, -p)


def _enough_capital(n: np.ndarray, p: float, alpha: float) -> np.ndarray:
    """The fewest successes above the share p that make the capital 1 / alpha; n + 1 if none do."""
    too_few, enough = np.ceil(p * n), n + 1.0  # log capital is convex in the successes
    while np.any(enough - too_few > 1):
        middle = np.floor((too_few + enough) / 2)
        made = log_capital(np.minimum(middle, n), n, p) >= -np.log(alpha)
        made |= middle > n
        enough = np.where(made, middle, enough)
        too_few = np.where(made, too_few, middle)
    return enough.astype(np.int64)


def _vote_by_vote(n: int, looks: np.ndarray, successes: np.ndarray, failures: np.ndarray) -> Stage:
    """A stage with a look at each vote, which stops where the decision at a later look is foregone.

    Args:
        n: votes at the end.
        looks: int64 (K,), numbers of votes.
        successes, failures: int64 (K,), so many at a look or more certify, or give up.
    """
    votes = np.arange(1, n + 1)
    foregone = []
    for needed in (successes, failures):
        of_each = np.full(n, 2 * n)  # for never
        of_each[looks - 1] = np.where(needed <= looks, needed, 2 * n)
        # Successes and failures never become fewer: so many now are as many then.
        foregone.append(np.minimum.accumulate(of_each[::-1])[::-1])
    certify, give_up = foregone
    return Stage(votes, votes - give_up, certify)


@dataclass(frozen=True)
class OursGivingUp(GroupSequential):
    """The tool's plan with another error of giving up than its 0.01.

    Args:
        giving_up: chance, over all looks, to give up what all votes would have certified.
    """

    giving_up: float = 0.01

    @cached_property
    def futility(self) -> float:
        return self.giving_up / (len(self.looks) - 1) if len(self.looks) > 1 else 0.0


def group_sequential(plan: GroupSequential, sigma: float) -> Stages:
    """Ours, as the tool's own rule answers for each number of successes at each look.

    Args:
        plan: that decides one radius.
        sigma: noise level, > 0.
    """
    (radius,) = plan.radii
    give_up, certify = [], []
    for k, n in enumerate(plan.looks):
        certify.append(votes_needed(n, plan.levels[k], radius, sigma))
        stops = StoppingRule(plan, sigma, n + 1).after(k, np.arange(n + 1), np.arange(n + 1))
        goes_on = np.flatnonzero(~stops)
        give_up.append(int(goes_on[0]) - 1 if len(goes_on) else certify[-1] - 1)
    give_up[-1] = -1  # the end is no giving up
    return (Stage(np.array(plan.looks), np.array(give_up), np.array(certify)),)


def group_sequential_at(p: float, plan: OursGivingUp) -> Stages:
    """Ours, but it gives up only what the peers do: images whose upper bound is below p_r.

    The plan gives up what N votes would not certify, and these ask for a share a little above p_r.
    """
    levels = [*[plan.futility] * (len(plan.looks) - 1), 0.0]
    return (at_looks(plan.looks, p, plan.levels, levels),)


class Power(NamedTuple):
    """What a plan does to an image of a known share: all exact but for rounding.

    Attributes:
        votes: expected, with the selections'.
        certified, given_up: chances.
    """

    votes: float
    certified: float
    given_up: float


@dataclass(frozen=True)
class StoppingPoints:
    """Where a stage ends, whatever the share: the number of ways to come there is the same for all.

    Attributes:
        n, successes: int64 (T,), votes and successes then; n does not fall.
        outcome: int64 (T,), CERTIFIED, GIVEN_UP or UNDECIDED.
        log_ways: float64 (T,), logarithm of the number of orders of votes that end there.
    """

    n: np.ndarray
    successes: np.ndarray
    outcome: np.ndarray
    log_ways: np.ndarray

    def chances(self, share: float) -> np.ndarray:
        """Probability of each of the first, float64; less than 1e-9 is left to all others.

        Args:
            share: of a class, the probability that it gets a vote.
        """
        found, size = np.zeros(0), 1024
        while found.sum() < 1 - 1e-9 and len(found) < len(self.n):
            some = slice(len(found), size)
            log_chance = _log_chance(self.log_ways[some], self.n[some], self.successes[some], share)
            found, size = np.append(found, np.exp(log_chance)), 4 * size
        assert abs(found.sum() - 1) < 1e-6, (share, found.sum())
        return found

    def draw(self, share: float, size: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of stopping points, int64 (size,)."""
        upto = np.cumsum(self.chances(share))
        drawn = np.searchsorted(upto, rng.random(size) * upto[-1], "right")
        return np.minimum(drawn, len(upto) - 1)


def stopping_points(stage: Stage, p: float) -> StoppingPoints:
    """Exact, by dynamic programming over the successes from look to look.

    Args:
        stage: the looks.
        p: share that it computes at, in (0, 1): near the one to be reached, or rounding would tell.
    """
    first = int(stage.n[0])
    successes = np.arange(first + 1)
    ways = -betaln(successes + 1, first - successes + 1) - np.log(first + 1)
    # Chances of lowest, lowest + 1, ... successes, of images that are undecided so far.
    alive, lowest, before = np.exp(_log_chance(ways, first, successes, p)), 0, first
    ended: list[tuple[int, int, int, np.ndarray]] = []  # outcome, votes, fewest successes, log ways
    for n, give_up, certify in zip(*(column.tolist() for column in stage), strict=True):
        if n == before + 1:
            grown = np.append(alive * (1 - p), 0.0)
            grown[1:] += alive * p
        elif n > before:  # not by Fourier transforms: small chances must be right, too
            grown = np.convolve(alive, binom.pmf(np.arange(n - before + 1), n - before, p))
        else:
            grown = alive
        low = min(max(give_up + 1 - lowest, 0), len(grown))
        high = min(max(certify - lowest, low), len(grown))
        parts = [(GIVEN_UP, 0, low), (CERTIFIED, high, len(grown))]
        if n == stage.n[-1]:
            parts.append((UNDECIDED, low, high))
        for outcome, begin, end in parts:
            if begin == end:
                continue
            if n == first:  # of a single look at many votes, chances may be too small for floats
                ended.append((outcome, n, begin, ways[begin:end]))
            else:
                s = lowest + np.arange(begin, end)
                with np.errstate(divide="ignore"):
                    log_chance = np.log(grown[begin:end])
                ended.append((outcome, n, int(s[0]), log_chance - _log_chance(0.0, n, s, p)))
        alive, lowest, before = grown[low:high], lowest + low, n
    outcomes, votes, least, log_ways = zip(*ended, strict=True)
    sizes = [len(part) for part in log_ways]
    return StoppingPoints(
        np.repeat(votes, sizes),
        np.concatenate([np.arange(s, s + size) for s, size in zip(least, sizes, strict=True)]),
        np.repeat(outcomes, sizes),
        np.concatenate(log_ways),
    )


def _log_chance(log_ways: object, n: object, successes: object, share: float) -> np.ndarray:
    """Logarithm of the chance of votes that come in so many orders."""
    failures = np.subtract(n, successes)
    return np.add(log_ways, xlogy(successes, share) + xlog1py(failures, -share))


def power(stages: Sequence[StoppingPoints], n0: int, share: float) -> Power:
    """What a plan does to a class of known share that every selection chooses.

    Args:
        stages: where its stages end.
        n0: votes of each selection.
        share: probability that the class gets a vote.
    """
    votes = certified = given_up = 0.0
    reached = 1.0
    for points in stages:
        chances = points.chances(share)
        n, outcome = points.n[: len(chances)], points.outcome[: len(chances)]
        votes += reached * (n0 + float(chances @ n))
        certified += reached * float(chances[outcome == CERTIFIED].sum())
        given_up += reached * float(chances[outcome == GIVEN_UP].sum())
        reached *= float(chances[outcome == UNDECIDED].sum())
    return Power(votes, certified, given_up)
