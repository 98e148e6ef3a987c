"""Attacks on smoothed classifiers whose distance to another class is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import ncx2
from torch import Tensor, nn

from diffsmooth.models import IdentityPurifier, LocalSmoothing
from diffsmooth.models.attacks import Method, SmoothedAttack, attack_smoothed
from diffsmooth.models.attacks.ball import l2_distance_up
from diffsmooth.models.attacks.confidence import LogConfidence
from diffsmooth.models.attacks.smoothed import Judge
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import MajorityVote

SHAPE, SIGMA = (1, 6, 6), 0.25
KEY = NoiseKey(0, "attack", "", "", 0)
HOW = SmoothedAttack(steps=20, samples=32, votes=4000, rows=500)
METHODS = pytest.mark.parametrize("method", ["pgd", "ddn"])


class Scores(nn.Module):
    """Two classes by a score of the flat image: 0 where it is positive."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x.flatten(1))
        return torch.stack([score, -score], dim=1)


def smooth(score: Callable[[Tensor], Tensor], purifier: Purifier | None = None) -> VoteFunction:
    local = LocalSmoothing(Scores(score), 1, 0.0, SHAPE)
    return VoteFunction(purifier or IdentityPurifier(), local, SIGMA, 2, batch=500)


def linear(distance: float, image: Tensor, steepness: float = 5.0) -> VoteFunction:
    """A hyperplane so far from the image; smoothed, its border is the same hyperplane."""
    normal = torch.randn(image.numel(), generator=torch.Generator().manual_seed(1))
    normal /= normal.norm()
    offset = float(normal @ image.flatten()) - distance
    return smooth(lambda x: steepness * (x @ normal - offset))


def ball(radius: float, centre: Tensor) -> VoteFunction:
    return smooth(lambda x: 20 * (radius**2 - (x - centre).square().sum(dim=1)))


def border_of_ball(radius: float, dimension: int) -> float:
    """Distance from the centre at which the noise leaves the ball half of the time."""

    def inside(distance: float) -> float:
        return float(ncx2.cdf((radius / SIGMA) ** 2, dimension, (distance / SIGMA) ** 2)) - 0.5

    return float(brentq(inside, 1e-6, 2 * radius))


def flips(f: VoteFunction, image: Tensor, n: int = 20_000) -> bool:
    key = NoiseKey(0, "attacked", "", "", 0)
    return run_plan(f, image, key, MajorityVote(n, 1e-3)).prediction == 1


GREY = torch.full(SHAPE, 0.5)


@pytest.mark.parametrize("distance", [0.3, 0.7])
def test_the_flip_of_a_linear_classifier_is_found_within_5_percent(distance: float) -> None:
    f = linear(distance, GREY)
    attacked = attack_smoothed(f, GREY, 0, "ddn", 4 * distance, HOW, KEY)
    found = l2_distance_up(GREY, attacked, on_grid=False)
    assert distance < found < 1.05 * distance + 0.05 * SIGMA
    assert flips(f, attacked)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_the_flip_of_a_ball_is_found_within_10_percent(offset: float) -> None:
    """At its centre the gradient is zero."""
    image = GREY + offset / 6
    f = ball(1.7, GREY.flatten())
    distance = border_of_ball(1.7, GREY.numel()) - offset
    how = replace(HOW, samples=1000)
    attacked = attack_smoothed(f, image, 0, "ddn", 3 * distance, how, KEY)
    found = l2_distance_up(image, attacked, on_grid=False)
    assert distance < found < 1.1 * distance
    assert flips(f, attacked)


@METHODS
def test_no_attack_beats_the_truth(method: Method) -> None:
    """Just inside the true distance nothing flips, just beyond it pgd does."""
    distance = 0.5
    f = linear(distance, GREY)
    for budget, flipped in ((0.97, False), (1.08, True)):
        how = replace(HOW, restarts=2)
        attacked = attack_smoothed(f, GREY, 0, method, budget * distance, how, KEY)
        assert l2_distance_up(GREY, attacked, on_grid=False) <= budget * distance
        assert flips(f, attacked) == flipped
        assert torch.equal(attacked, attacked.clamp(0, 1))


class Mirror(Purifier):
    """Turns the image upside down: the identity is no gradient of it."""

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        return noisy.flip(-2)


def test_without_the_gradient_through_the_purifier_it_is_weaker() -> None:
    f = smooth(lambda x: 5 * (x[:, :18].sum(dim=1) - 8.5), Mirror())
    margin = {}
    for straight_through in (False, True):
        how = replace(HOW, straight_through=straight_through, votes=1000)
        attacked = attack_smoothed(f, GREY, 0, "pgd", 0.3, how, KEY)
        margin[straight_through] = Judge(f, how, KEY, 0)(attacked).margin
        assert flips(f, attacked) != straight_through
    assert margin[True] > margin[False] + 0.5


def test_one_step_is_weaker_than_twenty() -> None:
    """A curved valley: the first gradient does not lead to its end."""

    def score(x: Tensor) -> Tensor:
        a, b = (x[:, :2] - 0.5).T
        return 0.5 - a - 10 * a * b

    f, margins = smooth(score), []
    for steps in (1, 20):
        how = replace(HOW, steps=steps, samples=1000)
        attacked = attack_smoothed(f, GREY, 0, "pgd", 0.3, how, KEY)
        margins.append(Judge(f, how, KEY, 0)(attacked).margin)
    assert margins[0] > margins[1] + 0.04


def test_restarts_find_no_more_votes_for_the_label() -> None:
    f = smooth(lambda x: torch.sin(12 * x[:, 0]) + torch.cos(9 * x[:, 1]) + 0.4)
    margins = []
    for restarts in (1, 4):
        how = replace(HOW, steps=3, restarts=restarts, votes=1000)
        attacked = attack_smoothed(f, GREY, 0, "pgd", 0.4, how, KEY)
        margins.append(Judge(f, how, KEY, 0)(attacked).margin)
    assert margins[1] <= margins[0]


def test_an_attack_is_its_key_s_alone() -> None:
    f = ball(1.7, GREY.flatten())
    how = replace(HOW, restarts=2, votes=100)
    one, again = (attack_smoothed(f, GREY, 0, "pgd", 0.3, how, KEY) for _ in range(2))
    other = attack_smoothed(f, GREY, 0, "pgd", 0.3, how, KEY._replace(image=1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("straight_through", [False, True])
def test_in_pieces_the_gradient_is_the_same(straight_through: bool) -> None:
    class Squeeze(Purifier):
        draws = 1

        def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
            assert draws is not None
            return torch.tanh(noisy + draws[0])

    f = smooth(lambda x: (x**2).sum(dim=1) - 3, Squeeze())
    draws = torch.randn((1, 10, *SHAPE), generator=torch.Generator().manual_seed(2))
    noisy = torch.rand((10, *SHAPE), generator=torch.Generator().manual_seed(3))
    gradients = []
    for rows in (10, 4):
        x = noisy.clone().requires_grad_()
        LogConfidence(f, rows, straight_through, draws)(x)[:, 0].sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5)


def test_its_softmax_is_f_s_mean() -> None:
    f = linear(0.1, GREY)
    noisy = torch.rand((7, *SHAPE), generator=torch.Generator().manual_seed(4))
    np.testing.assert_allclose(LogConfidence(f, 3)(noisy).softmax(dim=1), f(noisy), rtol=1e-5)


@pytest.mark.parametrize("name", ["steps", "restarts", "samples", "votes", "rows"])
def test_counts_are_at_least_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        SmoothedAttack(**{name: 0})


def test_words_that_no_one_knows_raise() -> None:
    with pytest.raises(ValueError, match="method must be pgd or ddn, got 'fgsm'"):
        attack_smoothed(linear(0.5, GREY), GREY, 0, "fgsm", 1.0, HOW, KEY)  # type: ignore[arg-type]
