import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from single_image import certify_image, predict_image
from torch import Tensor, nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    build_unet,
)
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import ABSTAIN, FixedSampleSize, largest_radius

SHAPE = (1, 4, 4)


class Linear(nn.Module):
    """Two classes: 1 where w . x + b > 0. Its decision boundary is a hyperplane."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([-score, score], dim=1)


def smooth(classifier: nn.Module, sigma: float, batch: int = 50) -> VoteFunction:
    local = LocalSmoothing(classifier, m=1, sigma_local=0.0, image_shape=SHAPE)
    return VoteFunction(IdentityPurifier(), local, sigma, 2, batch)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.12, 0.25, 0.5, 1.0]),
)
def test_the_radius_of_a_linear_classifier_never_exceeds_the_distance_and_is_close(
    index: int, shift: float, sigma: float
) -> None:
    generator = torch.Generator().manual_seed(index)
    weight = torch.randn(16, generator=generator)
    image = torch.rand(SHAPE, generator=generator)
    # Puts the image at shift * sigma from the hyperplane.
    bias = shift * sigma * float(weight.norm()) - float(image.flatten() @ weight)
    model = smooth(Linear(weight, bias), sigma)
    plan = FixedSampleSize(n0=50, n=5000, alpha=1e-9)
    certificate = certify_image(model, image, index, plan)
    distance = abs(shift) * sigma
    assert certificate.radius <= distance
    if certificate.prediction != ABSTAIN:
        assert certificate.prediction == int(shift > 0)
    assert certificate.radius <= largest_radius(sigma, 5000, 1e-9)
    if certificate.selected == int(shift > 0):  # near the hyperplane 50 votes may select wrongly
        # The bound at alpha = 1e-9 lies about 6 standard errors below the share of votes.
        p = norm.cdf(abs(shift))
        low = p - 10 * math.sqrt(p * (1 - p) / 5000) - 0.005
        assert certificate.radius >= sigma * norm.ppf(low) - 1e-9


@pytest.mark.parametrize("batch", [1, 7, 64, 200])
def test_the_votes_do_not_depend_on_the_batch(batch: int) -> None:
    image = torch.full(SHAPE, 0.5)
    model = smooth(Linear(torch.ones(16), -8.1), 0.25, batch)
    certificate = certify_image(model, image, 3, FixedSampleSize(n0=33, n=207, alpha=0.01))
    assert all(0 < count < 33 for _, count in certificate.selection_counts)
    reference = smooth(Linear(torch.ones(16), -8.1), 0.25, 10)
    assert certificate == certify_image(reference, image, 3, FixedSampleSize(33, 207, 0.01))


@pytest.mark.parametrize("kind", ["oneshot", "multistep"])
def test_the_counts_are_those_of_a_loop_over_votes(kind: str) -> None:
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=()).eval()
    torch.nn.init.normal_(unet.out[2].weight, std=0.05)  # type: ignore[arg-type]
    schedule = get_preset("small-gray32").schedule
    purifier = (
        OneShotPurifier(unet, schedule)
        if kind == "oneshot"
        else MultiStepPurifier(unet, schedule, steps=3, runs=4)
    )
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    local = LocalSmoothing(classifier, m=3, sigma_local=0.5, image_shape=(1, 8, 8))
    model = VoteFunction(purifier, local, 0.5, 5, batch=16)
    image = torch.rand(1, 8, 8)
    key = NoiseKey(0, "certify", "d", "test", 1)
    certificate = run_plan(model, image, key, FixedSampleSize(n0=40, n=1))
    counts = np.zeros(5, dtype=int)
    for k, votes in certificate.selection_counts:
        counts[k] = votes
    assert (counts > 0).sum() > 1
    expected = np.zeros(5, dtype=int)
    own = draw_noise(key, 40, (1, 8, 8))
    lanes = [draw_noise(key, 40, (1, 8, 8), lane=lane) for lane in range(1, 9)]
    with torch.inference_mode():
        for vote in range(40):
            answers = []
            for run in range(purifier.reverse_runs):
                draws = None
                if purifier.draws:
                    draws = torch.stack([lanes[2 * run + i][vote, None] for i in range(2)])
                purified = purifier((image + 0.5 * own[vote])[None], 0.5, draws)
                confidence = [classifier(purified + 0.5 * n).softmax(1) for n in local.noise]
                answers.append(int(torch.stack(confidence).mean(0).argmax()))
            expected[max(answers, key=answers.count)] += 1  # the first of equals
    assert counts.tolist() == expected.tolist()


def test_seeds_and_indices_give_other_votes_and_the_same_ones_the_same() -> None:
    image = torch.full(SHAPE, 0.5)
    model = smooth(Linear(torch.ones(16), -8.0), 0.25)
    plan = FixedSampleSize(n0=500, n=500)
    reference = certify_image(model, image, 0, plan, seed=0)
    assert certify_image(model, image, 0, plan, seed=0) == reference
    assert certify_image(model, image, 1, plan, seed=0) != reference
    assert certify_image(model, image, 0, plan, seed=1) != reference


def test_predict_abstains_on_the_boundary_only() -> None:
    image = torch.full(SHAPE, 0.5)
    for bias, answer in ((-7.0, 1), (-8.0, ABSTAIN)):
        f = smooth(Linear(torch.ones(16), bias), 0.25)
        assert predict_image(f, image, 0, 200, 0.001) == answer


def test_images_must_lie_in_the_unit_range() -> None:
    model = smooth(Linear(torch.ones(16), 0.0), 0.25)
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"image 4 must lie in \[0, 1\]"):
            certify_image(model, torch.full(SHAPE, value), 4, FixedSampleSize())


def test_outputs_that_are_no_numbers_certify_nothing() -> None:
    broken = smooth(Linear(torch.full((16,), math.nan), 0.0), 0.25)
    with pytest.raises(ValueError, match="output is not finite"):
        certify_image(broken, torch.full(SHAPE, 0.5), 0, FixedSampleSize(n0=2, n=2))
    local = LocalSmoothing(Linear(torch.ones(16), 0.0), m=1, image_shape=SHAPE)
    wrong = VoteFunction(IdentityPurifier(), local, 0.5, num_classes=3)
    with pytest.raises(ValueError, match="has 2 classes, not 3"):
        certify_image(wrong, torch.full(SHAPE, 0.5), 0, FixedSampleSize(n0=2, n=2))


def test_arguments_out_of_range() -> None:
    local = LocalSmoothing(nn.Identity(), image_shape=SHAPE)
    unet = build_unet("small-gray32", channel_mult=(1,), attention_resolutions=())
    purifier = OneShotPurifier(unet, get_preset("small-gray32").schedule)
    with pytest.raises(ValueError, match="sigma must be > 0"):
        VoteFunction(purifier, local, 0.0, 2)
    with pytest.raises(ValueError, match="sigma must be > 0 and finite in float32, got inf"):
        VoteFunction(purifier, local, math.inf, 2)
    for sigma in (1e300, 1e-40, math.nan):  # float32 has none of them
        with pytest.raises(ValueError, match="sigma must be > 0 and finite in float32"):
            VoteFunction(purifier, local, sigma, 2)
    with pytest.raises(ValueError, match="the largest possible is"):
        VoteFunction(purifier, local, 1e9, 2)
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        VoteFunction(purifier, local, 0.5, 1)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        VoteFunction(purifier, local, 0.5, 2, batch=0)
    with pytest.raises(ValueError, match="precision must be"):
        VoteFunction(purifier, local, 0.5, 2, precision="16-true")


def unsettled() -> nn.Sequential:
    """A network whose answers, and statistics, are others in train mode."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(128, 2),
    )  # fmt: skip
    network.train()
    return network


def through_a_parent(g: VoteFunction) -> None:
    nn.ModuleDict({"g": nn.Sequential(g)}).train()


def through_its_networks(g: VoteFunction) -> None:
    g.f.local_smoothing.classifier.train()


@pytest.mark.parametrize("train", [VoteFunction.train, through_a_parent, through_its_networks])
@pytest.mark.parametrize("copy", [True, False])
def test_it_votes_in_eval_mode_whatever_is_trained(
    train: Callable[[VoteFunction], object], copy: bool
) -> None:
    local = LocalSmoothing(unsettled(), m=2, sigma_local=0.1, image_shape=SHAPE)
    g = VoteFunction(IdentityPurifier(), local, 0.5, 2, batch=16, copy=copy)
    image, plan = torch.rand(SHAPE), FixedSampleSize(16, 100, 0.01)
    before = {key: value.clone() for key, value in g.state_dict().items()}
    expected = certify_image(g, image, 0, plan)
    train(g)
    assert certify_image(g, image, 0, plan) == expected
    assert certify_image(g, image, 0, plan) == expected
    assert not any(module.training for module in g.modules())
    assert all(torch.equal(value, before[key]) for key, value in g.state_dict().items())


def test_the_owners_networks_stay_as_they_are() -> None:
    unet = build_unet("small-gray32", channel_mult=(1,), attention_resolutions=()).train()
    purifier = OneShotPurifier(unet, get_preset("small-gray32").schedule)
    network = unsettled()
    network[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    before = [(key, value.clone(), value.stride()) for key, value in network.state_dict().items()]
    local = LocalSmoothing(network, m=2, sigma_local=0.1, image_shape=SHAPE)
    g = VoteFunction(purifier, local, 0.5, 2, batch=16, precision="bf16")
    prepare(g.f)
    certify_image(g, torch.rand(SHAPE), 0, FixedSampleSize(16, 100, 0.01))
    assert all(module.training for module in (*network.modules(), *unet.modules()))
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] + 5 * [True]
    assert all(p.dtype == torch.float32 for p in (*network.parameters(), *unet.parameters()))
    for (key, value, stride), (name, now) in zip(before, network.state_dict().items(), strict=True):
        assert (key, stride) == (name, now.stride())
        assert torch.equal(value, now)
    assert local.classifier is network
    assert g.f.local_smoothing.classifier is not network


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpys_integers_are_as_good_as_pythons(kind: type) -> None:
    image, network = torch.full(SHAPE, 0.5), Linear(torch.ones(16), -8.0)
    local = LocalSmoothing(network, kind(2), 0.1, SHAPE, seed=kind(7))
    same = LocalSmoothing(network, 2, 0.1, SHAPE, seed=7)
    assert torch.equal(local.noise, same.noise)
    g = VoteFunction(IdentityPurifier(), local, np.float32(0.25), kind(2), kind(50))
    h = VoteFunction(IdentityPurifier(), same, 0.25, 2, 50)
    numpys = certify_image(g, image, kind(3), FixedSampleSize(kind(10), kind(100)), seed=kind(1))
    pythons = certify_image(h, image, 3, FixedSampleSize(10, 100), seed=1)
    assert repr(numpys) == repr(pythons)
    assert json.dumps(asdict(numpys)) == json.dumps(asdict(pythons))
    answer = predict_image(h, image, 3, 50, 0.9, 1)
    assert predict_image(g, image, kind(3), kind(50), 0.9, kind(1)) == answer
