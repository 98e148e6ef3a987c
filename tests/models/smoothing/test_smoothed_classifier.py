"""The smoothed classifier of networks and callables of any make."""

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    SmoothedClassifier,
    build_unet,
)
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError

SHAPE = (1, 4, 4)
NOISY = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.linear(x.flatten(1)))


class WithLogits(Linear):
    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(x))


def smooth(classifier: Any, denoiser: Any = None, **more: Any) -> SmoothedClassifier:
    options = {"num_classes": 2, "image_shape": SHAPE, "precision": "float32"}
    return SmoothedClassifier(classifier, denoiser, **(options | more))


def halve(noisy: Tensor, sigma: float) -> Tensor:
    return noisy / (1 + sigma)


class Halve(Denoiser):
    image_shape = SHAPE

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        return halve(noisy, sigma)


@pytest.mark.parametrize("denoiser", [halve, Halve(), OneShotPurifier(halve)])
def test_f_is_the_formula_whatever_it_is_made_of(denoiser: Any) -> None:
    network = Linear().eval()
    weight, bias = network.linear.weight.detach(), network.linear.bias.detach()
    like = WithLogits()
    like.load_state_dict(network.state_dict())
    purified = (NOISY / 1.5)[:, None]
    for classifier in (network, network.forward, like, functools.partial(network.forward)):
        g = smooth(classifier, denoiser, m=3, sigma_local=0.25, local_seed=7)
        local = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(7))
        copies = (purified + 0.25 * local).flatten(2)
        expected = (copies @ weight.T + bias).softmax(2).mean(1)
        torch.testing.assert_close(g.f(NOISY), expected)


def test_no_denoiser_is_cohens_method_and_purifiers_are_taken_as_they_are() -> None:
    assert type(smooth(Linear()).f.purifier) is IdentityPurifier
    unet = build_unet("small-gray32", channel_mult=(1,), attention_resolutions=())
    steps = MultiStepPurifier(unet, get_preset("small-gray32").schedule, steps=2, runs=3)
    assert smooth(Linear(), steps, copy=False).f.purifier is steps


def test_it_votes_as_the_vote_function_of_its_parts() -> None:
    network = Linear()
    g = smooth(network, halve, sigma=0.25, m=2, sigma_local=0.1, batch=7)
    local = LocalSmoothing(network, 2, 0.1, SHAPE, 42)
    f = VoteFunction(OneShotPurifier(halve), local, 0.25, 2, 7)
    assert (g.f.sigma, g.f.batch, g.f.num_classes, g.f.image_shape) == (0.25, 7, 2, SHAPE)
    assert torch.equal(g.f(NOISY), f(NOISY))


def test_its_networks_are_copies_unless_told_otherwise() -> None:
    network = Linear().train()
    g = smooth(network)
    assert network.training
    assert next(g.parameters()) is not network.linear.weight
    same = smooth(network, copy=False)
    assert next(same.parameters()) is network.linear.weight
    assert not network.training


def test_it_stays_in_eval_mode_and_moves_like_any_module() -> None:
    g = smooth(Linear(), precision="auto")
    parent = nn.ModuleDict({"g": g})
    parent.train()
    assert not any(module.training for module in g.modules())
    assert g.f.precision == resolve_precision("auto", "cpu")
    parent.to("meta")
    assert g.f.device == torch.device("meta")
    assert g.f.precision == "float32"
    assert g.precision == "auto"


def test_it_begins_where_the_classifier_is() -> None:
    assert smooth(Linear().to("meta")).f.device == torch.device("meta")


def test_lightnings_words_for_precisions_are_known() -> None:
    assert smooth(Linear(), precision="bf16-mixed").f.precision == "bf16"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: smooth(5), "a classifier must be callable, got a int"),
        (lambda: smooth(Linear(), 5), "a denoiser must be callable, got a int"),
        (lambda: smooth(Linear(), Halve(), image_shape=(3, 4, 4)), "takes images of 1 x 4 x 4, no"),
        (lambda: smooth(Linear(), precision="half"), "precision must be auto"),
        (lambda: smooth(Linear(), sigma=0.0), "sigma must be > 0"),
        (lambda: smooth(Linear(), sigma="0.25"), "sigma must be a number, got '0.25'"),
        (lambda: smooth(Linear(), sigma_local=None), "sigma_local must be a number, got None"),
        (lambda: smooth(Linear(), num_classes=1), "num_classes must be at least 2"),
        (lambda: smooth(Linear(), batch=0), "batch must be at least 1"),
        (lambda: smooth(Linear(), m=0), "m must be at least 1"),
        (lambda: smooth(Linear(), sigma_local=-1.0), "sigma_local must be >= 0"),
        (lambda: smooth(Linear(), build_unet("small-gray32")), "a U-Net, which needs its schedule"),
    ],
)
def test_arguments_out_of_range(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def test_a_wrong_precision_is_the_users_mistake() -> None:
    with pytest.raises(UserError):
        smooth(Linear(), precision="16-true")
