"""Certification plans: how many votes to ask for, and what to conclude from them.

A plan is driven by an ask/tell loop that knows nothing of the plan::

    run = plan.start(sigma, num_classes)
    while run.wanted:
        run.update(counts_of(run.wanted))
    certificate = run.certificate

Nothing else knows it either: what it has written is read again by the plan itself, found by its
name (`stats/plan_text.py`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import numpy as np

from diffsmooth.stats.bounds import check_alpha, count_of
from diffsmooth.stats.certificate import (
    ABSTAIN,
    Certificate,
    Look,
    Votes,
    most_voted,
    sparse_counts,
    total_votes,
)
from diffsmooth.stats.plan_by_looks import PlanByLooks, VotesInStages
from diffsmooth.stats.prediction import predict_from_counts


class PlanRun(Protocol):
    """A plan at work on one image."""

    @property
    def wanted(self) -> int:
        """Votes wanted next; 0 when done."""

    @property
    def stage(self) -> int:
        """Number of the stream that the wanted votes come from; stages never share a vote."""

    def update(self, counts: np.ndarray) -> None:
        """Takes votes a class, integers (num_classes,), exactly `wanted` in all."""

    @property
    def certificate(self) -> Certificate:
        """The result, once `wanted` is 0."""


class Plan(Protocol):
    """How an image is certified; `PlanByLooks` has most of it.

    str(plan) is its text, by which a manifest knows it: its name (`package.module:name` for a plan
    of another package) and, in parentheses, keyword arguments that construct it again, of numbers
    and tuples of them.
    """

    @property
    def name(self) -> str:
        """The kind of plan, for journals and reports; its word of --plan, if it has one."""

    @property
    def certifies(self) -> bool:
        """Whether it gives radii; predictions have none."""

    @property
    def label_aware(self) -> bool:
        """Whether it uses labels, to skip images that count for nothing."""

    @property
    def n0(self) -> int:
        """Selection votes of each image."""

    @property
    def max_votes(self) -> int:
        """The most votes that an image can take."""

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> PlanRun:
        """Begins an image.

        Args:
            sigma: noise level, > 0, in [0, 1] pixel units.
            num_classes: at least 2.
            label: the true class, for plans that use it.
        """

    def nothing(self, sigma: float) -> Certificate:
        """What is known of an image whose votes could not be cast.

        A plan that may stop before its last vote says here for what it stops, by `grid` or
        `tolerance`: elsewhere its radii understate, and comparisons are refused.
        """

    def conclude(self, sigma: float, votes: Votes) -> Certificate:
        """What an image's votes give: `PlanRun.certificate`, and a stored one computed again.

        Raises:
            ValueError: votes that the plan cannot have asked for.
        """

    @classmethod
    def of_certificate(cls, certificate: Certificate, alpha: float) -> Self:
        """The plan that made a stored certificate, as far as it matters to what its votes give.

        Args:
            certificate: of this kind of plan.
            alpha: failure probability; the certificate's own, or that of a re-analysis.

        Raises:
            ValueError: no plan of this kind can have made it.
        """


@dataclass(frozen=True)
class FixedSampleSize(PlanByLooks):
    """Cohen's CERTIFY: n0 votes select the class, n fresh votes bound its probability.

    Args:
        n0: selection votes, at least 1.
        n: estimation votes, at least 1.
        alpha: failure probability a certificate, in (0, 1).

    Raises:
        ValueError: out of range.

    Source: Cohen et al. 2019, section 3.2.2, CERTIFY.
    """

    name: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class MajorityVote:
    """Cohen's PREDICT: n votes, and a test that the top class is ahead. Gives no radius.

    Args:
        n: votes, at least 1.
        alpha: probability that the prediction is not the smoothed classifier's, in (0, 1).

    Raises:
        ValueError: out of range.

    Source: Cohen et al. 2019, section 3.2.1, PREDICT.
    """

    name: ClassVar[str] = "majority"
    certifies: ClassVar[bool] = False
    label_aware: ClassVar[bool] = False
    n0: ClassVar[int] = 0
    n: int = 100_000
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count_of("n", self.n))
        check_alpha(self.alpha)

    @property
    def max_votes(self) -> int:
        return self.n

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> "_MajorityRun":
        return _MajorityRun(self, sigma, num_classes)

    def nothing(self, sigma: float) -> Certificate:
        return Certificate(
            sigma=sigma, alpha=self.alpha, plan=self.name, max_n=self.n, max_radius=0.0
        )

    def conclude(self, sigma: float, votes: Votes) -> Certificate:
        counts = dict(votes.estimation)
        selected, n = most_voted(votes.estimation), total_votes(votes.estimation)
        if n != self.n or votes.looks != ((n, counts[selected]),):
            raise ValueError(f"{n} votes and looks {votes.looks}, {self.n} were asked")
        # Those that got votes, ascending, whatever their numbers are, and one that got none.
        place = predict_from_counts(np.array([*counts.values(), 0], dtype=np.int64), self.alpha)
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

    @classmethod
    def of_certificate(cls, certificate: Certificate, alpha: float) -> Self:
        return cls(certificate.max_n, alpha)


class _MajorityRun(VotesInStages):
    def __init__(self, plan: MajorityVote, sigma: float, num_classes: int) -> None:
        super().__init__((plan.n,), sigma, num_classes)
        self._plan = plan

    @property
    def certificate(self) -> Certificate:
        (counts,) = self._finished_counts()
        votes = Votes((), sparse_counts(counts), (Look(self._plan.n, int(counts.max())),))
        return self._plan.conclude(self._sigma, votes)
