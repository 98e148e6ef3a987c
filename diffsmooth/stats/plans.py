"""Certification plans: how many votes to ask for, and what to conclude from them.

A plan is driven by an ask/tell loop that knows nothing of the plan::

    run = plan.start(sigma, num_classes)
    while run.wanted:
        run.update(counts_of(run.wanted))
    certificate = run.certificate
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from diffsmooth.stats.bounds import (
    certified_radius,
    check_alpha,
    count_of,
    largest_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.certificate import ABSTAIN, Certificate, Look, sparse_counts
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
    """How an image is certified."""

    @property
    def name(self) -> str:
        """Of the kind of plan, for journals and reports."""

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
        """What is known of an image whose votes could not be cast."""


@dataclass(frozen=True)
class FixedSampleSize:
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
    n0: int = 100
    n: int = 10_000
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("n0", "n"):
            object.__setattr__(self, name, count_of(name, getattr(self, name)))
        check_alpha(self.alpha)

    @property
    def max_votes(self) -> int:
        return self.n0 + self.n

    def start(self, sigma: float, num_classes: int, label: int | None = None) -> "_FixedRun":
        return _FixedRun(self, sigma, num_classes)

    def nothing(self, sigma: float) -> Certificate:
        return Certificate(
            sigma=sigma,
            alpha=self.alpha,
            plan=self.name,
            max_n=self.n,
            max_radius=largest_radius(sigma, self.n, self.alpha),
        )


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


class _FixedRun(VotesInStages):
    def __init__(self, plan: FixedSampleSize, sigma: float, num_classes: int) -> None:
        super().__init__((plan.n0, plan.n), sigma, num_classes)
        self._plan = plan

    @property
    def certificate(self) -> Certificate:
        selection, estimation = self._finished_counts()
        selected = int(selection.argmax())
        successes = int(estimation[selected])
        p_lower = lower_confidence_bound(successes, self._plan.n, self._plan.alpha)
        return replace(
            self._plan.nothing(self._sigma),
            status="certified" if p_lower > 0.5 else "abstained",
            prediction=selected if p_lower > 0.5 else ABSTAIN,
            radius=certified_radius(p_lower, self._sigma),
            p_lower=p_lower,
            n0=self._plan.n0,
            n=self._plan.n,
            votes=self._plan.n0 + self._plan.n,
            selected=selected,
            selection_counts=sparse_counts(selection),
            estimation_counts=sparse_counts(estimation),
            looks=(Look(self._plan.n, successes),),
        )


class _MajorityRun(VotesInStages):
    def __init__(self, plan: MajorityVote, sigma: float, num_classes: int) -> None:
        super().__init__((plan.n,), sigma, num_classes)
        self._plan = plan

    @property
    def certificate(self) -> Certificate:
        (counts,) = self._finished_counts()
        selected = int(counts.argmax())
        prediction = predict_from_counts(counts, self._plan.alpha)
        return replace(
            self._plan.nothing(self._sigma),
            status="abstained" if prediction == ABSTAIN else "answered",
            prediction=prediction,
            n=self._plan.n,
            votes=self._plan.n,
            selected=selected,
            estimation_counts=sparse_counts(counts),
            looks=(Look(self._plan.n, int(counts[selected])),),
        )
