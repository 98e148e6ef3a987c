"""Plans that select a class, then look at its votes: the best of the looks' bounds counts."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from diffsmooth.stats.bounds import (
    certified_radius,
    check_alpha,
    count_of,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.certificate import (
    ABSTAIN,
    Certificate,
    Look,
    Status,
    Votes,
    most_voted,
    sparse_counts,
    total_votes,
)
from diffsmooth.stats.errors import UserError

if TYPE_CHECKING:
    from diffsmooth.stats.many_plays import StoppingRule


@dataclass(frozen=True)
class PlanByLooks:
    """n0 votes select the class, and fresh votes bound its probability at one look or several.

    By the union bound over the looks, the largest of their bounds overstates with probability at
    most alpha under any stopping rule, if their levels add up to alpha at most.

    A plan of this kind gives itself a `name`; `looks` and `levels`, if it has several; a run that
    stops before the last look says in `nothing` for which radii it does so.

    Args:
        n0: selection votes, at least 1.
        n: most estimation votes, at least 1.
        alpha: failure probability a certificate, in (0, 1).

    Raises:
        ValueError: out of range.
    """

    name: ClassVar[str]
    certifies: ClassVar[bool] = True
    n0: int = 100
    n: int = 10_000
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("n0", "n"):
            object.__setattr__(self, name, count_of(name, getattr(self, name)))
        check_alpha(self.alpha)

    def __str__(self) -> str:
        name = self.name if ":" in self.name else type(self).__name__
        return name + repr(self).removeprefix(type(self).__qualname__)

    @property
    def label_aware(self) -> bool:
        return False

    @property
    def max_votes(self) -> int:
        return self.n0 + self.n

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of votes at the looks, rising to n."""
        return (self.n,)

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each look's bound; they add up to alpha at most, and the last is highest."""
        return (self.alpha,)

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> "RunByLooks":
        return RunByLooks(self, sigma, num_classes)

    def nothing(self, sigma: float) -> Certificate:
        return Certificate(
            sigma=sigma,
            alpha=self.alpha,
            plan=self.name,
            max_n=self.n,
            # The last look has the most votes and the highest level.
            max_radius=largest_radius(sigma, self.n, self.levels[-1]),
        )

    def conclude(self, sigma: float, votes: Votes) -> Certificate:
        selected, n = most_voted(votes.selection), total_votes(votes.estimation)
        self._check_looks(votes.looks, dict(votes.estimation).get(selected, 0), n)
        bounds = (
            lower_confidence_bound(look.successes, look.n, level)
            for look, level in zip(votes.looks, self.levels, strict=False)
        )
        p_lower = max(bounds, default=0.0)
        certified = p_lower > 0.5
        status: Status = "certified" if certified else "abstained" if n else "skipped"
        n0 = total_votes(votes.selection)
        return replace(
            self.nothing(sigma),
            status=status,
            prediction=selected if certified else ABSTAIN,
            radius=certified_radius(p_lower, sigma),
            p_lower=p_lower,
            n0=n0,
            n=n,
            votes=n0 + n,
            selected=selected,
            selection_counts=votes.selection,
            estimation_counts=votes.estimation,
            looks=votes.looks,
        )

    @classmethod
    def of_certificate(cls, certificate: Certificate, alpha: float) -> Self:
        return cls(n0=max(1, certificate.n0), n=certificate.max_n, alpha=alpha)

    def stopping_rule(self, sigma: float, images: int) -> "StoppingRule | None":
        """When it stops, for so many images at once; None if never before its last look.

        Raises:
            UserError: it may stop early, and does not say when.
        """
        if len(self.looks) > 1:
            raise UserError(f"plan {self.name} does not tell forecasts when it stops")
        return None

    def _check_looks(self, looks: tuple[Look, ...], successes: int, n: int) -> None:
        """Raises ValueError for looks that it cannot have had, or that are of other votes."""
        if tuple(look.n for look in looks) != self.looks[: len(looks)]:
            raise ValueError(f"looks at other votes than those of the plan {self.name}")
        if not looks and not self.label_aware:
            raise ValueError("there are no votes, but no error either")
        steps = zip(((0, 0), *looks), looks, strict=False)
        if not all(0 <= new[1] - old[1] <= new[0] - old[0] for old, new in steps):
            raise ValueError(f"looks whose successes cannot follow each other: {looks}")
        if (n, successes) != (tuple(looks[-1]) if looks else (0, 0)):
            raise ValueError("the votes at the last look are not those that were counted")


class VotesInStages:
    """Asks for the votes of each stage in turn."""

    def __init__(self, sizes: tuple[int, ...], sigma: float, num_classes: int) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be > 0 and finite, got {sigma}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self._sizes = sizes
        self._sigma = float(sigma)
        self._num_classes = num_classes
        self._counts: list[np.ndarray] = []

    @property
    def stage(self) -> int:
        return len(self._counts)

    @property
    def wanted(self) -> int:
        return self._sizes[self.stage] if self.stage < len(self._sizes) else 0

    def update(self, counts: np.ndarray) -> None:
        counts = np.asarray(counts)
        if counts.shape != (self._num_classes,) or not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                f"counts must be integers ({self._num_classes},), got {counts.dtype} {counts.shape}"
            )
        if counts.min() < 0 or counts.sum() != self.wanted:
            raise ValueError(f"counts must be {self.wanted} votes, got {counts.sum()}")
        self._counts.append(counts.astype(np.int64))  # sums of narrow ones would wrap around

    def _finished_counts(self) -> list[np.ndarray]:
        if self.wanted:
            raise ValueError(f"{self.wanted} more votes are wanted before there is a certificate")
        return self._counts


class RunByLooks(VotesInStages):
    """Stage 0 selects; stage k takes the votes between looks k - 1 and k."""

    def __init__(self, plan: PlanByLooks, sigma: float, num_classes: int) -> None:
        super().__init__((plan.n0, *np.diff([0, *plan.looks]).tolist()), sigma, num_classes)
        self._plan = plan
        self._looks: list[Look] = []

    @property
    def selected(self) -> int:
        """The class that the selection votes chose, once they are there."""
        return int(self._counts[0].argmax())

    def update(self, counts: np.ndarray) -> None:
        super().update(counts)
        if self.stage > 1:
            before = self._looks[-1].successes if self._looks else 0
            n = self._plan.looks[self.stage - 2]
            self._looks.append(Look(n, before + int(counts[self.selected])))

    @property
    def certificate(self) -> Certificate:
        selection, *estimation = self._finished_counts()
        total = sum(estimation, start=np.zeros_like(selection))
        votes = Votes(sparse_counts(selection), sparse_counts(total), tuple(self._looks))
        return self._plan.conclude(self._sigma, votes)
