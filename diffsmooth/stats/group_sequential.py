"""Group-sequential certification: looks at the votes on the way, and stops when all is known.

The guarantee is that of one look at the end: the chance that the bound of *any* look overstates is
at most alpha, whatever the rule is that stops.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import betaincinv

from diffsmooth.stats.bounds import (
    certified_radius,
    check_alpha,
    count_of,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.certificate import ABSTAIN, Certificate, Look, Status, sparse_counts
from diffsmooth.stats.plans import VotesInStages

GROWTH = 1.25  # of the looks
LAST_SHARE = 0.8  # of alpha, for the last look
FUTILITY = 0.01  # chance, over all looks, to give up what all votes would have certified


@dataclass(frozen=True)
class GroupSequential:
    """Clopper-Pearson bounds at growing numbers of votes, until every radius asked for is decided.

    Looks are at n_k = min(n, ceil(first_look * 1.25^(k-1))) votes, the last but one dropped if it
    is beyond 0.85 n. The last look has level 0.8 alpha; the others share 0.2 alpha in proportion to
    sqrt(n_k). By the union bound over the looks, the largest of the bounds overstates with
    probability at most alpha under any stopping rule, so at every radius at once. With one look its
    level is alpha.

    A radius is decided when it is certified, or when it is futile: when an upper bound of the
    class's probability lies below the share of votes that would certify it at the end. Giving up
    costs power only, never the guarantee.

    Args:
        n0: selection votes, at least 1.
        n: most estimation votes, at least 1.
        alpha: failure probability a certificate, in (0, 1).
        radii: that must be decided, >= 0, absolute, l2, in [0, 1] pixel units; kept ascending.
        first_look: votes at the first look, at least 1.
        tolerance: instead of `radii`: stop when the radius is at least (1 - tolerance) times what
            all n votes at the present share would give (a prediction, never reported), or when a
            certificate is futile. In (0, 1); None decides `radii`.
        label_aware: stop after the selection where it did not choose the label: such an image
            counts for nothing in certified accuracy.

    Raises:
        ValueError: out of range.
    """

    name: ClassVar[str] = "group_sequential"
    n0: int = 100
    n: int = 100_000
    alpha: float = 1e-3
    radii: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    first_look: int = 100
    tolerance: float | None = None
    label_aware: bool = False

    def __post_init__(self) -> None:
        for name in ("n0", "n", "first_look"):
            object.__setattr__(self, name, count_of(name, getattr(self, name)))
        check_alpha(self.alpha)
        if not self.radii or not all(0 <= radius < math.inf for radius in self.radii):
            raise ValueError(f"radii must be some numbers >= 0, got {self.radii}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be in (0, 1), got {self.tolerance}")
        object.__setattr__(self, "radii", tuple(sorted(set(map(float, self.radii)))))

    @property
    def max_votes(self) -> int:
        return self.n0 + self.n

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """Numbers of votes at the looks, rising to n."""
        looks, size = [min(self.n, self.first_look)], float(self.first_look)
        while looks[-1] < self.n:
            size *= GROWTH
            n = min(self.n, math.ceil(size))
            if n > looks[-1]:
                looks.append(n)
        if len(looks) > 1 and looks[-2] > 0.85 * self.n:
            del looks[-2]
        return tuple(looks)

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The level of each look's bound; they add up to alpha at most."""
        *early, _ = self.looks
        if not early:
            return (self.alpha,)
        roots = [math.sqrt(n) for n in early]
        rest = (1 - LAST_SHARE) * self.alpha
        return (*(rest * root / sum(roots) for root in roots), LAST_SHARE * self.alpha)

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> "_SequentialRun":
        """Begins an image.

        Raises:
            ValueError: see `Plan.start`; label_aware without a label.
        """
        if self.label_aware and label is None:
            raise ValueError("label_aware needs the label")
        return _SequentialRun(self, sigma, num_classes, label)

    def nothing(self, sigma: float) -> Certificate:
        return Certificate(
            sigma=sigma,
            alpha=self.alpha,
            plan=self.name,
            max_n=self.n,
            # The last look has the most votes and the highest level.
            max_radius=largest_radius(sigma, self.n, self.levels[-1]),
            grid=self.radii if self.tolerance is None else (),
            first_look=self.first_look,
            tolerance=self.tolerance,
        )


class _SequentialRun(VotesInStages):
    """Stage 0 selects; stage k takes the votes between looks k - 1 and k."""

    def __init__(
        self, plan: GroupSequential, sigma: float, num_classes: int, label: int | None
    ) -> None:
        super().__init__((plan.n0, *np.diff([0, *plan.looks]).tolist()), sigma, num_classes)
        self._plan = plan
        self._label = label
        self._looks: list[Look] = []
        self._p_lower = 0.0
        self._decided = False

    @property
    def wanted(self) -> int:
        return 0 if self._decided else super().wanted

    @property
    def selected(self) -> int:
        return int(self._counts[0].argmax())

    def update(self, counts: np.ndarray) -> None:
        super().update(counts)
        if self.stage == 1:
            self._decided = self._plan.label_aware and self.selected != self._label
            return
        n = self._plan.looks[self.stage - 2]
        successes = sum(int(counts[self.selected]) for counts in self._counts[1:])
        self._looks.append(Look(n, successes))
        level = self._plan.levels[len(self._looks) - 1]
        self._p_lower = max(self._p_lower, lower_confidence_bound(successes, n, level))
        self._decided = self._all_decided(n, successes)

    def _all_decided(self, n: int, successes: int) -> bool:
        plan = self._plan
        if plan.tolerance is None:
            undecided = [radius for radius in plan.radii if not self._reaches(radius)]
        elif self._reaches(0.0):
            at_the_end = lower_confidence_bound(successes * plan.n // n, plan.n, plan.alpha)
            return self._reaches((1 - plan.tolerance) * certified_radius(at_the_end, self._sigma))
        else:
            undecided = [0.0]
        upper = upper_bound(successes, n, len(plan.looks))
        level = plan.levels[-1]
        needed = (votes_needed(plan.n, level, radius, self._sigma) for radius in undecided)
        return all(upper < votes / plan.n for votes in needed)

    def _reaches(self, radius: float) -> bool:
        return _certifies(self._p_lower, radius, self._sigma)

    @property
    def certificate(self) -> Certificate:
        selection, *estimation = self._finished_counts()
        n = self._looks[-1].n if self._looks else 0
        total = sum(estimation, start=np.zeros_like(selection))
        certified = self._p_lower > 0.5
        status: Status = "certified" if certified else "abstained" if n else "skipped"
        return replace(
            self._plan.nothing(self._sigma),
            status=status,
            prediction=self.selected if certified else ABSTAIN,
            radius=certified_radius(self._p_lower, self._sigma),
            p_lower=self._p_lower,
            n0=self._plan.n0,
            n=n,
            votes=self._plan.n0 + n,
            selected=self.selected,
            selection_counts=sparse_counts(selection),
            estimation_counts=sparse_counts(total),
            looks=tuple(self._looks),
        )


def upper_bound(successes: int, n: int, looks: int) -> float:
    """Clopper-Pearson upper bound, at the level that each of so many looks has for futility."""
    if successes == n or looks == 1:
        return 1.0
    return float(betaincinv(successes + 1, n - successes, 1 - FUTILITY / (looks - 1)))


@lru_cache(maxsize=4096)
def votes_needed(n: int, level: float, radius: float, sigma: float) -> int:
    """The fewest of `n` votes whose bound at `level` certifies a radius; n + 1 if none does."""

    def enough(successes: int) -> bool:
        return _certifies(lower_confidence_bound(successes, n, level), radius, sigma)

    return bisect_left(range(n + 1), True, key=enough)


def _certifies(p_lower: float, radius: float, sigma: float) -> bool:
    return p_lower > 0.5 and certified_radius(p_lower, sigma) >= radius
