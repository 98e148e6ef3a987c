"""Certification plans: how many votes to ask for, and what to conclude from them.

A plan is driven by an ask/tell loop that knows nothing of the plan::

    run = plan.start(sigma, num_classes)
    while run.wanted:
        run.update(counts_of(run.wanted))
    certificate = run.certificate

Nothing else knows it either: what it has written is read again by the plan itself, found by its
name (`stats/plan_words.py`).
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from diffsmooth.stats.bounds import (
    certified_radius,
    check_alpha,
    count_of,
    largest_radius,
    lower_confidence_bound,
    number_of,
    predict_from_counts,
)
from diffsmooth.stats.certificate import ABSTAIN, NO_CLASS, Certificate, Look, Votes, most_voted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_run import PlanRun

if TYPE_CHECKING:
    from diffsmooth.stats.many_plays import StoppingRule


@dataclass(frozen=True)
class Plan:
    """How an image is certified: what all plans have, and what they do unless they say otherwise.

    n0 votes select the class, and fresh ones bound its probability at one look or several. By the
    union bound, the largest of their bounds overstates with probability at most alpha under any
    stopping rule, if their levels add up to alpha at most.

    A plan is a frozen dataclass of numbers and tuples of them. str(plan) is its text in manifests.
    One of another package has a `name` by which it is imported, `package.module:Class` (in a
    notebook `__main__:Class`); what moves its looks or levels is found again by `of_certificate`,
    and `nothing` says for what it stops early. Before it votes, `check_plan` rehearses all that.

    Args:
        n0: selection votes, at least 1.
        n: most estimation votes, at least 1.
        alpha: failure probability a certificate, in (0, 1).

    Attributes:
        name: word of --plan, for journals and reports.
        certifies: whether it gives radii; predictions have none.

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
        # Not NumPy's: their texts are no numbers of Python's, see `__str__`.
        object.__setattr__(self, "alpha", number_of("alpha", self.alpha))
        check_alpha(self.alpha)

    def __str__(self) -> str:
        name = self.name if ":" in self.name else type(self).__name__
        return name + repr(self).removeprefix(type(self).__qualname__)

    @property
    def label_aware(self) -> bool:
        """Whether it uses labels, to skip images that count for nothing."""
        return False

    @property
    def max_votes(self) -> int:
        """The most votes that an image can take."""
        return self.n0 + self.n

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of estimation votes at the looks, rising to n."""
        return (self.n,)

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each look's bound; they add up to alpha at most, and the last is highest."""
        return (self.alpha,)

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> PlanRun:
        """Begins an image.

        Args:
            sigma, num_classes: see `PlanRun`.
            label: the true class, for plans that use it.
        """
        return PlanRun(self, sigma, num_classes)

    def nothing(self, sigma: float) -> Certificate:
        """What is known of an image whose votes could not be cast.

        A plan that may stop before its last look says here for what it stops, by `grid` or
        `tolerance`: elsewhere its radii understate, and comparisons are refused.
        """
        return Certificate(
            sigma=sigma,
            alpha=self.alpha,
            plan=self.name,
            max_n=self.n,
            # The last look has the most votes and the highest level.
            max_radius=largest_radius(sigma, self.n, self.levels[-1]) if self.certifies else 0.0,
        )

    def conclude(self, sigma: float, votes: Votes) -> Certificate:
        """What an image's votes give: the run's certificate, and a stored one computed again.

        Raises:
            ValueError: votes that the plan cannot have asked for.
        """
        selected = most_voted(votes.selection)
        n0, n = (sum(count for _, count in counts) for counts in votes[:2])
        self._check_looks(votes.looks, dict(votes.estimation).get(selected, 0), n)
        bounds = (
            lower_confidence_bound(look.successes, look.n, level)
            for look, level in zip(votes.looks, self.levels, strict=False)
        )
        p_lower = max(bounds, default=0.0)
        certified = p_lower > 0.5
        return replace(
            self.nothing(sigma),
            status="certified" if certified else "abstained" if n else "skipped",
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
        """The plan that made a stored certificate, as far as it matters to what its votes give.

        Args:
            certificate: one of this kind of plan.
            alpha: failure probability; the certificate's own, or that of a re-analysis.

        Raises:
            ValueError: no plan of this kind can have made it.
        """
        return cls(n=certificate.max_n, alpha=alpha)

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


@dataclass(frozen=True)
class FixedSampleSize(Plan):
    """Cohen's CERTIFY: n0 votes select the class, n fresh votes bound its probability.

    Source: Cohen et al. 2019, section 3.2.2, CERTIFY.
    """

    name: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class MajorityVote(Plan):
    """Cohen's PREDICT: n votes, and a test that the top class is ahead. Gives no radius.

    Args:
        n: votes, at least 1.
        alpha: with at most this probability it answers, and with another class than the smoothed
            classifier's; in (0, 1).

    Source: Cohen et al. 2019, section 3.2.1, PREDICT.
    """

    name: ClassVar[str] = "majority"
    certifies: ClassVar[bool] = False
    n0: int = field(default=0, init=False, repr=False)
    n: int = 100_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count_of("n", self.n))
        object.__setattr__(self, "alpha", number_of("alpha", self.alpha))
        check_alpha(self.alpha)

    def conclude(self, sigma: float, votes: Votes) -> Certificate:
        counts = dict(votes.estimation)
        selected, n = most_voted(votes.estimation), sum(counts.values())
        self._check_looks(votes.looks, counts.get(selected, 0), n)
        # Those that got votes, ascending, whatever their numbers are, and one that got none.
        place = predict_from_counts(np.array([*counts.values(), 0], dtype=np.int64), self.alpha)
        if NO_CLASS in counts:  # whose class a void vote would have been for is not known
            place = ABSTAIN
        return replace(
            self.nothing(sigma),
            status="abstained" if place == ABSTAIN else "answered",
            prediction=ABSTAIN if place == ABSTAIN else [*counts][place],
            n=n,
            votes=n,
            selected=selected,
            estimation_counts=votes.estimation,
            looks=votes.looks,
        )
