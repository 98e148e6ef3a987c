"""Attacks on a smoothed classifier: with random restarts, judged by votes, the smallest flip."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.attacks.ball import into_ball, l2_distance_up
from diffsmooth.models.attacks.confidence import LogConfidence
from diffsmooth.models.attacks.ddn import ddn_l2
from diffsmooth.models.attacks.pgd import pgd_l2
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes, draw_run
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import ABSTAIN, predict_from_counts
from diffsmooth.stats.bounds import check_alpha, count_of

Method = Literal["pgd", "ddn"]
"""pgd: as far from the class as the budget lets it; ddn: the smallest perturbation within it."""

JUDGING = 0  # stage of the noise by which restarts are compared; then come the restarts' own
BISECTIONS = 8  # of the way from the image to the border of the ball


@dataclass(frozen=True)
class SmoothedAttack:
    """How hard a smoothed classifier is attacked.

    Args:
        steps: gradient steps of a restart, at least 1.
        restarts: at least 1. The first begins at the image, the others anywhere in the ball; each
            has noise of its own.
        samples: noise draws that the mean is over, at least 1.
        votes: of the attack's own, on one more set of draws, by which restarts are compared and the
            smallest flip is searched for; at least 1.
        alpha: level at which these votes must tell another class for a flip, in (0, 1).
        straight_through, rows: see `LogConfidence`.

    Raises:
        ValueError: out of range.
    """

    steps: int = 20
    restarts: int = 1
    samples: int = 16
    votes: int = 100
    alpha: float = 1e-3
    straight_through: bool = False
    rows: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "samples", "votes", "rows"):
            count_of(name, getattr(self, name))
        check_alpha(self.alpha)


def attack_smoothed(
    f: VoteFunction,
    image: Tensor,
    label: int,
    method: Method,
    epsilon: float,
    how: SmoothedAttack,
    key: NoiseKey,
    on_grid: bool = False,
) -> Tensor:
    """The best of the restarts, in [0, 1] and within l2 distance epsilon, see `l2_distance_up`.

    Best is, of pgd, where the fewest votes are for the label; of ddn, the smallest perturbation by
    which another class wins, where there is one.

    Args:
        f: as it was loaded, see `LogConfidence`; its device computes.
        image: float32 (C, H, W), in [0, 1].
        label: the class to leave.
        method: see `Method`.
        epsilon: l2 budget, > 0, in [0, 1] pixel units.
        how: steps, restarts, samples, votes.
        key: whose noise the attack uses, of purpose "attack": never that of the votes to come.
        on_grid: see `l2_distance_up`.

    Returns:
        float32 (C, H, W), on the CPU.

    Source: SmoothAdv_PGD and SmoothAdv_DDN, Salman et al. 2019.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be {' or '.join(get_args(Method))}, got {method!r}")
    judge = Judge(f, how, key, label)
    found = []
    for start in _restarts(f, image, epsilon, how, key):
        attacked = _one_restart(f, image, label, method, epsilon, how, start)
        attacked = into_ball(image, attacked, epsilon, on_grid)
        if method == "ddn":
            attacked = smallest_flip(judge, image, attacked, epsilon, on_grid)
        verdict = judge(attacked)
        length = l2_distance_up(image, attacked, on_grid) if method == "ddn" else 0.0
        found.append((not verdict.flipped, length * verdict.flipped, verdict.margin, attacked))
    return min(found, key=lambda one: one[:3])[3]


class Verdict(NamedTuple):
    """What the attack's own votes say of an image.

    Attributes:
        flipped: whether they tell another class.
        margin: share of votes for the label less that of the best other class; ties by confidence.
    """

    flipped: bool
    margin: float


class Judge:
    """Lets f vote on attacked images, all on the same draws: see `SmoothedAttack.votes`."""

    def __init__(self, f: VoteFunction, how: SmoothedAttack, key: NoiseKey, label: int) -> None:
        self._f, self._how, self._key, self._label = f, how, key, label

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Verdict:
        """Of an image (C, H, W) in [0, 1], on the CPU."""
        f, how = self._f, self._how
        counts, confidence = np.zeros(f.num_classes, dtype=np.int64), 0.0
        for first in range(0, how.votes, how.rows):
            count = min(how.rows, how.votes - first)
            noise, draws = _noise(f, self._key, JUDGING, count, first)
            mean = f(image.to(f.device) + noise, draws).float()
            counts += np.bincount(mean.argmax(dim=1).cpu(), minlength=f.num_classes)
            confidence += float(mean[:, self._label].sum())
        told = predict_from_counts(counts, how.alpha)
        others = np.delete(counts, self._label)
        margin = (counts[self._label] - others.max() + confidence / how.votes) / how.votes
        return Verdict(told not in (ABSTAIN, self._label), float(margin))


def smallest_flip(
    judge: Judge, image: Tensor, attacked: Tensor, epsilon: float, on_grid: bool = False
) -> Tensor:
    """The nearest point that flips on the line from an image through an attacked one, to the ball.

    Where not even the last does, that one. Bisected: to within epsilon / 2**BISECTIONS.
    """
    direction = attacked.double() - image.double()
    length = float(direction.norm())
    if not length:
        return attacked

    def at(distance: float) -> Tensor:
        moved = (image.double() + direction * (distance / length)).float()
        return into_ball(image, moved, epsilon, on_grid)

    low, high = 0.0, epsilon
    if judge(attacked).flipped:
        high = length
    elif not judge(at(epsilon)).flipped:
        return at(epsilon)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if judge(at(middle)).flipped else (middle, high)
    return at(high)


class _Restart(NamedTuple):
    """Where a restart begins, (1, C, H, W) or None, its noise and draws, and a generator."""

    delta: Tensor | None
    noise: Tensor
    draws: Tensor | None
    generator: torch.Generator


def _restarts(
    f: VoteFunction, image: Tensor, epsilon: float, how: SmoothedAttack, key: NoiseKey
) -> Iterator[_Restart]:
    image = image.to(f.device)
    for number in range(how.restarts):
        stage = JUDGING + 1 + number
        noise, draws = _noise(f, key, stage, how.samples)
        digest = key._replace(split=f"{key.split}, restart {number}").digest(8)
        generator = torch.Generator(f.device)
        generator.manual_seed(int.from_bytes(digest) >> 1)
        delta = None
        if number:
            # A uniform direction; of a length that is no matter in many dimensions.
            delta = torch.randn(image.shape, device=f.device, generator=generator)
            delta *= epsilon * number / how.restarts / delta.norm()
            delta = ((image + delta).clamp(0, 1) - image)[None]
        yield _Restart(delta, noise, draws, generator)


def _one_restart(
    f: VoteFunction,
    image: Tensor,
    label: int,
    method: Method,
    epsilon: float,
    how: SmoothedAttack,
    start: _Restart,
) -> Tensor:
    model = LogConfidence(f, how.rows, how.straight_through, start.draws)
    images, labels = image.to(f.device)[None], torch.tensor([label], device=f.device)
    target = (model, images, labels, epsilon, how.steps, start.noise, how.samples)
    attacked = images
    if method == "ddn":
        # From the middle of the ball: the norm may have to shrink as well as to grow. The levels
        # are so fine that they are none.
        attacked = ddn_l2(
            *target,
            init_norm=epsilon / 2,
            levels=2**20,
            start=start.delta,
            generator=start.generator,
        )
    if torch.equal(attacked, images):  # of pgd; and where ddn has found no flip
        attacked = pgd_l2(*target, start=start.delta, generator=start.generator)
    return attacked[0].cpu()


def _noise(
    f: VoteFunction, key: NoiseKey, stage: int, count: int, first: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Noise (count, C, H, W) scaled to f's level, and a random purifier's draws, on f's device."""
    source, votes = NumpyNoise(), [Votes(key, stage, first, count)]
    noise = source.draw(votes, 0, count, f.image_shape) * f.noise_level
    draws = draw_run(source, votes, f.purifier.draws, 0, count, f.image_shape)
    return noise.to(f.device), None if draws is None else draws.to(f.device)
