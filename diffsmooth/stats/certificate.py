"""What certification says of one image."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

ABSTAIN = -1
NO_CLASS = -1

Status = Literal["certified", "answered", "abstained", "skipped", "failed"]
"""answered: by PREDICT, without a radius. skipped: not estimated, for the selected class is not the
label. failed: an error came before the votes were complete."""

SparseCounts = tuple[tuple[int, int], ...]
"""(class, votes) of the classes that got votes, by ascending class; `NO_CLASS` for void votes."""


class Look(NamedTuple):
    """A look at the estimation votes: of `n` so far, `successes` were for the selected class."""

    n: int
    successes: int


class Votes(NamedTuple):
    """The votes for an image: with its plan, all that a certificate follows from.

    Attributes:
        selection, estimation: votes a class, sparse; they are never shared.
        looks: at the estimation votes, rising to all of them.
    """

    selection: SparseCounts
    estimation: SparseCounts
    looks: tuple[Look, ...]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A prediction of the smoothed classifier and the radius within which it cannot change.

    What is left out says that there were no votes.

    Attributes:
        status: see `Status`.
        prediction: class, or ABSTAIN unless certified or answered.
        radius: l2, in [0, 1] pixel units, rounded down; 0.0 unless certified.
        p_lower: lower confidence bound of the selected class's probability.
        n0: selection votes.
        n: estimation votes.
        votes: all votes used, n0 + n.
        selected: class that the selection votes chose.
        sigma: noise level, [0, 1] pixel units.
        alpha: failure probability.
        plan: name of the kind of plan, see `Plan.name`.
        max_n: the most estimation votes that the plan could take.
        max_radius: the largest radius that the plan could give at this sigma, as `radius`.
        grid: the radii that the plan decides, ascending; empty where it decides all.
        first_look: votes at a sequential plan's first look; 0 for other plans, and where not known.
        tolerance: share of the radius that the plan may give away to stop early; None if none.
        selection_counts, estimation_counts: votes a class, sparse.
        looks: at the estimation votes, rising to n.
    """

    status: Status = "failed"
    prediction: int = ABSTAIN
    radius: float = 0.0
    p_lower: float = 0.0
    n0: int = 0
    n: int = 0
    votes: int = 0
    selected: int = ABSTAIN
    sigma: float
    alpha: float
    plan: str
    max_n: int
    max_radius: float
    grid: tuple[float, ...] = ()
    first_look: int = 0
    tolerance: float | None = None
    selection_counts: SparseCounts = ()
    estimation_counts: SparseCounts = ()
    looks: tuple[Look, ...] = ()


def sparse_counts(counts: np.ndarray) -> SparseCounts:
    """Sparse form of votes a class, integers (K + 1,), the void ones last."""
    void = int(counts[-1])
    cast = tuple((int(k), int(counts[k])) for k in np.flatnonzero(counts[:-1]))
    return ((NO_CLASS, void), *cast) if void else cast


def most_voted(counts: SparseCounts) -> int:
    """The class of the most votes, the first of several; class 0 where all are void.

    Raises:
        ValueError: no votes, or classes that do not ascend.
    """
    if not counts:
        raise ValueError("there are no votes, but no error either")
    classes = [k for k, _ in counts]
    if classes != sorted(set(classes)) or min(votes for _, votes in counts) < 1:
        raise ValueError(f"counts must be of some votes, by ascending class, got {counts}")
    cast = [pair for pair in counts if pair[0] != NO_CLASS]
    return max(cast, key=lambda pair: (pair[1], -pair[0]), default=(0, 0))[0]
