"""Group-sequential certification: looks at the votes on the way, and stops when all is known."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from diffsmooth.stats.bounds import count_of, number_of
from diffsmooth.stats.certificate import Certificate
from diffsmooth.stats.many_plays import StoppingRule
from diffsmooth.stats.plan_run import PlanRun
from diffsmooth.stats.plans import Plan

GROWTH = 1.25  # of the looks
LAST_SHARE = 0.8  # of alpha, for the last look
FUTILITY = 0.01  # chance, over all looks, to give up what all votes would have certified
FIRST = np.array([0])  # the one image of a run


@dataclass(frozen=True)
class GroupSequential(Plan):
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
        n0, n, alpha: see `Plan`.
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
    n: int = 100_000
    radii: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    first_look: int = 100
    tolerance: float | None = None
    label_aware: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "first_look", count_of("first_look", self.first_look))
        try:
            radii = tuple(map(float, self.radii))
        except (TypeError, ValueError):
            radii = ()
        if not radii or not all(0 <= radius < math.inf for radius in radii):
            raise ValueError(f"radii must be some numbers >= 0, got {self.radii}")
        if self.tolerance is not None:
            object.__setattr__(self, "tolerance", number_of("tolerance", self.tolerance))
            if not 0 < self.tolerance < 1:
                raise ValueError(f"tolerance must be in (0, 1), got {self.tolerance}")
        object.__setattr__(self, "label_aware", bool(self.label_aware))
        object.__setattr__(self, "radii", tuple(sorted(set(radii))))

    @cached_property
    def looks(self) -> tuple[int, ...]:
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
        *early, _ = self.looks
        if not early:
            return (self.alpha,)
        roots = [math.sqrt(n) for n in early]
        rest = (1 - LAST_SHARE) * self.alpha
        return (*(rest * root / sum(roots) for root in roots), LAST_SHARE * self.alpha)

    @cached_property
    def futility(self) -> float:
        """The level of each look's upper bound, but for the last look, which gives nothing up."""
        return FUTILITY / (len(self.looks) - 1) if len(self.looks) > 1 else 0.0

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> "_SequentialRun":
        """Begins an image.

        Raises:
            ValueError: see `Plan.start`; label_aware without a label.
        """
        if self.label_aware and label is None:
            raise ValueError("label_aware needs the label")
        return _SequentialRun(self, sigma, num_classes, label)

    def nothing(self, sigma: float) -> Certificate:
        return replace(
            super().nothing(sigma),
            grid=self.radii if self.tolerance is None else (),
            first_look=self.first_look,
            tolerance=self.tolerance,
        )

    @classmethod
    def of_certificate(cls, certificate: Certificate, alpha: float) -> Self:
        plan = cls(
            n=certificate.max_n,
            alpha=certificate.alpha,
            radii=certificate.grid or cls.radii,
            first_look=certificate.first_look or cls.first_look,
            tolerance=certificate.tolerance,
            label_aware=certificate.status == "skipped",
        )
        if not certificate.first_look:  # as in format 1 of the journal
            largest, sigma = certificate.max_radius, certificate.sigma
            # Without votes it matters only whether one look was planned, and that shows.
            for first in [look.n for look in certificate.looks[:1]] or (plan.first_look, plan.n, 1):
                plan = replace(plan, first_look=first)
                if math.isclose(plan.nothing(sigma).max_radius, largest, rel_tol=1e-6):
                    break
        return replace(plan, alpha=alpha)

    def stopping_rule(self, sigma: float, images: int) -> StoppingRule:
        return StoppingRule(self, sigma, images)


class _SequentialRun(PlanRun):
    """Stops when all is decided."""

    def __init__(
        self, plan: GroupSequential, sigma: float, num_classes: int, label: int | None
    ) -> None:
        super().__init__(plan, sigma, num_classes)
        self._skips = plan.label_aware
        self._label = label
        self._stops = plan.stopping_rule(sigma, images=1)
        self._decided = False

    @property
    def wanted(self) -> int:
        return 0 if self._decided else super().wanted

    def update(self, counts: np.ndarray, void: int = 0) -> None:
        super().update(counts, void)
        if self._looks:
            successes = np.array([self._looks[-1].successes])
            (self._decided,) = self._stops.after(len(self._looks) - 1, successes, FIRST)
        else:
            self._decided = self._skips and self.selected != self._label
