"""Attacks against the published ones' golden vectors, and against models with exact answers."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.models import build_classifier, ddn_l2, gradient_free_l2, pgd_l2
from diffsmooth.models.attacks import ascent_l2
from diffsmooth.models.attacks.target import Target

ATTACKS = {"pgd": pgd_l2, "ddn": ddn_l2, "nograd": gradient_free_l2}
EVERY = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


class Linear(nn.Module):
    """Two classes, 0 where w x > threshold; `margin` stretches the logits."""

    def __init__(self, shape: tuple[int, ...], threshold: float = 0.0, margin: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        self.threshold = threshold
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        score = self.margin * ((self.w * x).flatten(1).sum(dim=1) - self.threshold)
        return torch.stack([score, -score], dim=1)

    def set_distance(self, image: Tensor, distance: float) -> None:
        """Moves the hyperplane so far from the image (C, H, W); negative: image is of class 1."""
        w = self.w.detach()
        self.threshold = float((w * image).sum() - distance * w.norm())

    @property
    def direction(self) -> Tensor:
        return self.w.detach() / self.w.detach().norm()


class Steps(nn.Module):
    """Class 1 where the pixels' sum is above a threshold; the gradient is zero everywhere."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        score = torch.sign(x.flatten(1).sum(dim=1) - self.threshold)
        return torch.stack([-score, score], dim=1)


def random_images(n: int, seed: int = 0, shape: tuple[int, int, int] = (2, 5, 5)) -> Tensor:
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(seed))


def tiny_network() -> nn.Module:
    torch.manual_seed(0)
    return build_classifier("cifar_resnet8", 4, "none").eval()


@pytest.mark.parametrize(("name", "attack"), ATTACKS.items(), ids=ATTACKS)
def test_attacks_equal_the_golden_ones(name: str, attack: Any) -> None:
    model = build_classifier("cifar_resnet20", 10).eval()
    model.load_state_dict(fill(model.state_dict()))
    golden = {k: torch.from_numpy(v) for k, v in np.load(FOLDER / "attacks_resnet20.npz").items()}
    shares = []
    for key, expected in golden.items():
        match = re.fullmatch(rf"{name}_(multi4_)?eps([\d.]+)_steps(\d+)", key)
        if match is None:
            continue
        samples = 4 if match[1] else 1
        noise = golden["noise_multi"] if match[1] else golden["noise"]
        x, y = golden["x"][: len(expected)], golden["y"][: len(expected)]
        out = attack(model, x, y, float(match[2]), int(match[3]), noise, samples)
        delta, wanted = (out - x).flatten(1), (expected - x).flatten(1)
        torch.testing.assert_close(delta.norm(dim=1), wanted.norm(dim=1), rtol=0.01, atol=0)
        cosine = torch.cosine_similarity(delta, wanted)
        assert (cosine[wanted.norm(dim=1) > 0] > 0.99).all(), key
        share = ((delta - wanted).abs() < 1e-3).float().mean(dim=1)
        if float(match[2]) <= 0.25:
            assert (share == 1).all(), key
        shares += share.tolist()
    # Rounding, amplified step by step, moves a few images of the long attacks apart (in float64,
    # too), which ones depends on the kernels. A wrong rule moves all.
    assert shares
    assert np.median(shares) > 0.98


def test_pgd_on_a_linear_model_goes_along_its_weights() -> None:
    model = Linear((2, 5, 5))
    images = torch.full((2, 2, 5, 5), 0.5)
    out = pgd_l2(model, images, torch.tensor([0, 1]), epsilon=0.3, steps=4)
    torch.testing.assert_close(out[0], images[0] - 0.3 * model.direction)
    torch.testing.assert_close(out[1], images[1] + 0.3 * model.direction)


def test_tiny_gradients_keep_their_direction() -> None:
    model = Linear((2, 5, 5), margin=30.0)
    images = torch.full((1, 2, 5, 5), 0.5)
    model.set_distance(images[0], 1 / float(model.w.detach().norm()))
    # Logits of 30 and -30: the gradient is about exp(-60), and its square is 0 in float32.
    out = pgd_l2(model, images, torch.tensor([0]), epsilon=0.1, steps=1)
    torch.testing.assert_close(out[0], images[0] - 0.1 * model.direction)


@pytest.mark.parametrize("gamma", [0.05, 0.01])
def test_ddn_finds_the_distance_to_the_hyperplane(gamma: float) -> None:
    model = Linear((2, 5, 5))
    images = torch.full((1, 2, 5, 5), 0.5)
    distance, label = 0.2, torch.tensor([0])
    model.set_distance(images[0], distance)
    out = ddn_l2(model, images, label, 1.0, 100, init_norm=0.1, gamma=gamma, levels=2**20)
    assert model(out).argmax(dim=1) != label
    assert distance - 1e-5 <= float((out - images).norm()) <= distance * (1 + gamma) + 1e-5
    # What is wrong already needs no perturbation; what is beyond reach gets none.
    assert torch.equal(ddn_l2(model, images, 1 - label, 1.0, 5), images)
    model.set_distance(images[0], 100.0)
    assert torch.equal(ddn_l2(model, images, label, 1.0, 5), images)


def test_ddn_counts_the_most_frequent_prediction() -> None:
    model = Linear((2, 5, 5))
    images = torch.full((1, 2, 5, 5), 0.5)
    model.set_distance(images[0], 0.0)
    # Class 1 by the first noise vector and by the mean softmax, class 0 by two votes to one.
    noise = torch.tensor([-3.0, 0.01, 0.01]).view(3, 1, 1, 1) * model.direction
    assert torch.equal(ddn_l2(model, images, torch.tensor([1]), 1.0, 5, noise, 3), images)
    out = ddn_l2(model, images, torch.tensor([0]), 1.0, 5, noise, 3, levels=2**20)
    assert not torch.equal(out, images)


def test_ddn_projects_to_the_budget_and_stays_on_the_grid() -> None:
    model = Linear((2, 5, 5))
    images = torch.full((1, 2, 5, 5), 128 / 255)
    model.set_distance(images[0], 0.5)
    out = ddn_l2(model, images, torch.tensor([0]), epsilon=0.25, steps=50, init_norm=1.0)
    assert float((out - images).norm()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(out * 255, (out * 255).round(), atol=1e-4, rtol=0)


def test_without_gradients_the_direction_is_about_the_weights() -> None:
    model = Linear((1, 2, 2))
    images = torch.full((1, 1, 2, 2), 0.5)
    model.set_distance(images[0], 0.0)
    noise = 0.5 * torch.randn((4000, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    out = gradient_free_l2(model, images, torch.tensor([0]), 0.2, 3, noise, 4000)
    torch.testing.assert_close(out[0], images[0] - 0.2 * model.direction, atol=0.01, rtol=0)


@EVERY
@settings(max_examples=25)
@given(
    epsilon=st.floats(1e-3, 20),
    steps=st.integers(1, 5),
    samples=st.integers(2, 3),
    sharpness=st.floats(0, 4),
    seed=st.integers(0, 2**32),
)
def test_results_stay_in_the_image_and_in_the_ball(
    attack: Any, epsilon: float, steps: int, samples: int, sharpness: float, seed: int
) -> None:
    model = Linear((2, 5, 5), threshold=0.2)
    images = ((random_images(3, seed) - 0.5) * (1 + sharpness) + 0.5).clamp(0, 1)
    noise = 0.5 * torch.randn(
        (3 * samples, 2, 5, 5), generator=torch.Generator().manual_seed(seed + 1)
    )
    out = attack(model, images, torch.tensor([0, 1, 0]), epsilon, steps, noise, samples)
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert (out >= 0).all()
    assert (out <= 1).all()
    rounding = 50**0.5 / (2 * 255) if attack is ddn_l2 else 1e-6
    assert ((out - images).flatten(1).norm(dim=1) <= epsilon * (1 + 1e-5) + rounding).all()


@EVERY
def test_an_image_does_not_depend_on_its_batch(attack: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 8), nn.Tanh(), nn.Linear(8, 3))
    images, labels = random_images(4), torch.tensor([0, 1, 2, 0])
    noise = 0.2 * torch.randn((8, 2, 5, 5), generator=torch.Generator().manual_seed(1))
    together = attack(model, images, labels, 0.5, 3, noise, 2)
    for i in range(4):
        alone = attack(
            model, images[i : i + 1], labels[i : i + 1], 0.5, 3, noise[2 * i : 2 * i + 2], 2
        )
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("attack", [pgd_l2, gradient_free_l2])
@pytest.mark.parametrize("steps", [1, 3])
def test_at_a_zero_gradient_the_step_is_a_normal_draw(attack: Any, steps: int) -> None:
    """Of its own length, about sqrt(d), and not of length 1: smoothing-adversarial, attacks.py."""
    images, labels = torch.full((3, 2, 5, 5), 0.5), torch.tensor([0, 1, 0])

    def run(seed: int, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.zeros((2 * n, 2, 5, 5))
        out: Tensor = attack(
            Steps(25.0), images[:n], labels[:n], 0.9, steps, noise, 2, generator=generator
        )
        return out

    generator = torch.Generator().manual_seed(0)
    expected = torch.zeros(2, 5, 5)
    for _ in range(steps):
        draw = torch.randn(2, 5, 5, generator=generator)
        expected = (0.5 + expected + 2 * 0.9 / steps * draw).clamp(0, 1) - 0.5
        expected *= min(1.0, 0.9 / float(expected.norm()))
    for found in run(0, 3) - images:
        torch.testing.assert_close(found, expected)
    assert torch.equal(run(0, 3)[:1], run(0, 1))
    assert not torch.equal(run(0, 3), run(1, 3))


def test_ddns_step_at_a_zero_gradient_is_a_normal_draw() -> None:
    images, labels, model = torch.full((1, 2, 5, 5), 100 / 255), torch.tensor([0]), Steps(20.0)
    generator = torch.Generator().manual_seed(3)
    delta, norm, best, best_norm = torch.zeros(2, 5, 5), 2.0, torch.zeros(2, 5, 5), 1e9
    farthest = float((1 - images[0]).norm())
    for i in range(6):
        wrong = bool(model(images + delta).argmax() != 0)
        if wrong and delta.norm() < best_norm:
            best, best_norm = delta, float(delta.norm())
        length = 0.01 + 0.99 * (1 + np.cos(np.pi * i / 6)) / 2
        delta = delta + float(length) * torch.randn(2, 5, 5, generator=generator)
        norm = min(norm * (0.95 if wrong else 1.05), farthest)
        point = images[0] + delta * (norm / delta.norm())
        delta = ((point * 255).round() / 255).clamp(0, 1) - images[0]
    assert 0 < best_norm < 2.0
    found = ddn_l2(model, images, labels, 2.0, 6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found[0], images[0] + best)


@pytest.mark.parametrize("epsilon", [None, 0.4])
def test_ascent_does_not_move_at_a_zero_gradient(epsilon: float | None) -> None:
    images, labels = random_images(2), torch.tensor([0, 1])
    assert torch.equal(ascent_l2(Steps(25.0), images, labels, 0.5, 3, epsilon=epsilon), images)


@pytest.mark.parametrize("epsilon", [None, 0.4])
@pytest.mark.parametrize("damping", [1e-8, 0.05])
def test_ascent_by_hand(epsilon: float | None, damping: float) -> None:
    """SmoothMix's attack and, with a budget, consistency's: projected first, and then clamped."""
    model = Linear((2, 5, 5), margin=2.0)
    images = ((random_images(2) - 0.5) * 2 + 0.5).clamp(0, 1)  # some pixels black or white
    model.set_distance(images[0], 0.25)  # firm in class 0: the gradient is small there
    labels = torch.tensor([0, 1])  # and the other image is taken for it, wrongly
    noise = 0.01 * torch.randn((4, 2, 5, 5), generator=torch.Generator().manual_seed(1))
    norms = []
    found = ascent_l2(model, images, labels, 0.15, 3, noise, 2, epsilon=epsilon, damping=damping)
    for i in range(2):
        point = images[i].double()
        for _ in range(3):
            point.requires_grad_()
            rows = point + noise[2 * i : 2 * i + 2].double()
            score = model.margin * ((rows * model.w.detach()).sum(dim=(1, 2, 3)) - model.threshold)
            loss = -torch.log(torch.sigmoid(2 * (1 - 2 * i) * score).mean())
            (gradient,) = torch.autograd.grad(loss, point)
            norms.append(float(gradient.norm()))
            point = point.detach() + 0.15 * gradient / (gradient.norm() + damping)
            change = point - images[i]
            if epsilon is not None and change.norm() > epsilon:
                change = change * (epsilon / change.norm())
            point = (images[i] + change).clamp(0, 1)
        torch.testing.assert_close(found[i].double(), point, rtol=0, atol=1e-4)
    assert min(norms) < 0.05 < 1.0 < max(norms)
    if epsilon is not None:
        assert ((found - images).flatten(1).norm(dim=1) <= epsilon + 1e-6).all()


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_parameters_and_modes_are_left_alone(attack: Any, training: bool) -> None:
    model = tiny_network().train(training)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = random_images(2, shape=(3, 32, 32))
    noise = torch.randn((4, 3, 32, 32))
    out = attack(model, images, torch.tensor([0, 1]), 0.5, 2, noise, 2)
    assert not out.requires_grad
    assert all(module.training == training for module in model.modules())
    assert all((parameter.grad == 1).all() for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    if not training:
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_no_noise_is_the_clean_model() -> None:
    model, images, labels = tiny_network(), random_images(2, shape=(3, 32, 32)), torch.zeros(2)
    labels = labels.long()
    zero = torch.zeros_like(images)
    for attack in (pgd_l2, ddn_l2):
        clean = attack(model, images, labels, 0.5, 3)
        torch.testing.assert_close(clean, attack(model, images, labels, 0.5, 3, zero))
        torch.testing.assert_close(clean, attack(model, images, labels, 0.5, 3, samples=4))


@EVERY
def test_bad_arguments_are_named(attack: Any) -> None:
    model, images, labels = Linear((2, 5, 5)), random_images(2), torch.tensor([0, 1])
    noise = torch.zeros_like(images)
    for epsilon in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="epsilon must be > 0 and finite"):
            attack(model, images, labels, epsilon, 1, noise, 1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        attack(model, images, labels, 0.5, 0, noise, 1)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        attack(model, images, labels, 0.5, 1, noise, 0)
    with pytest.raises(ValueError, match=r"noise must be \(4, 2, 5, 5\), got \(2, 2, 5, 5\)"):
        attack(model, images, labels, 0.5, 1, noise, 2)
    with pytest.raises(ValueError, match=r"labels must be \(2,\), got \(1,\)"):
        attack(model, images, labels[:1], 0.5, 1, noise, 1)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\), got \(2, 5, 5\)"):
        attack(model, images[0], labels, 0.5, 1, noise, 1)
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        attack(model, images * 255, labels, 0.5, 1, noise, 1)
    with pytest.raises(ValueError, match="noise must be given"):
        gradient_free_l2(model, images, labels, 0.5, 1)
    with pytest.raises(ValueError, match="samples must be at least 2, got 1: with one noise vec"):
        gradient_free_l2(model, images, labels, 0.5, 1, noise, 1)
    for name in ("step_length", "epsilon", "damping"):
        bad: dict[str, Any] = {"step_length": 0.5, name: 0.0}
        with pytest.raises(ValueError, match=f"{name} must be > 0 and finite, got 0.0"):
            ascent_l2(model, images, labels, steps=1, **bad)
    for kwargs, message in (
        ({"init_norm": 0.0}, "init_norm must be > 0"),
        ({"gamma": 1.0}, r"gamma must be in \(0, 1\)"),
        ({"levels": 1}, "levels must be at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ddn_l2(model, images, labels, 0.5, 1, **kwargs)  # type: ignore[arg-type]


def test_gradients_do_not_underflow_where_autocast_takes_float16() -> None:
    """A confident model's: in float16 they are zero, and a zero gradient is a random step."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0], [-1.0]]) * torch.linspace(0.5, 1, 12))
        model[1].bias.copy_(torch.tensor([5.0, -5.0]))
    target = Target(model, torch.ones(1, 3, 2, 2), torch.tensor([0]), None, 1)
    delta = torch.zeros(1, 3, 2, 2)
    expected, _ = target.gradient(delta)
    with torch.autocast("cpu", torch.float16):
        found, _ = target.gradient(delta)
    assert 0 < expected.abs().max() < 6e-8  # less than float16 has
    assert torch.equal(found, expected)
