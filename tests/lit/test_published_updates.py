"""Weights after steps on the same images and noise, against the published loops.

The loops are written again from their rules, an image at a time, from: smoothing-consistency,
code/train_consistency.py and third_party/macer.py (Jeong & Shin 2020); smoothmix, code/train.py
(Jeong et al. 2021); smoothing-adversarial, code/train_pgd.py (Salman et al. 2019).
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.training import (
    ConsistencyTraining,
    MacerTraining,
    SmoothAdvTraining,
    SmoothMixTraining,
)
from diffsmooth.lit.training.classifier import ClassifierTraining
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*`self.trainer` reference is not registered")

M, SIGMA, CLASSES, EPOCH = 2, 0.25, 10, 3  # the epoch, from 0, is the fourth of ten of the warm-up
SHAPE = (3, 6, 6)


class Part(NamedTuple):
    """What a published loop makes of some of a loader's images at once."""

    images: Tensor  # (b, C, H, W)
    labels: Tensor
    noise: Tensor  # (b, m, C, H, W)
    generator: torch.Generator  # of the mixes


def make_network() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, bias=False)  # its bias would do nothing before a batch norm
    last = nn.Linear(64, CLASSES)
    nn.init.normal_(last.weight, std=0.3)  # firm answers, so that attacked images keep some
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), last)


def images_and_noise(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """n images, some pixels black or white, their labels, half right, and m noise vectors each."""
    generator = torch.Generator().manual_seed(1)
    images = (1.4 * torch.rand(n, *SHAPE, generator=generator) - 0.2).clamp(0, 1)
    with torch.no_grad():
        answers = make_network()(images).argmax(dim=1)
    labels = torch.where(torch.arange(n) % 2 == 0, answers, (answers + 1) % CLASSES)
    return images, labels, SIGMA * torch.randn(n, M, *SHAPE, generator=generator)


def gradient(network: nn.Module, point: Tensor, label: Tensor, noise: Tensor) -> Tensor:
    """Of -log of the mean softmax at the label, at one image (C, H, W) under noise (m, C, H, W)."""
    point = point.clone().requires_grad_()
    answers = [F.softmax(network((point + own)[None])[0], dim=0)[label] for own in noise]
    p = torch.stack(answers).sum() / len(noise)
    return torch.autograd.grad(-torch.log(p), point)[0]


def shortened(change: Tensor, longest: float) -> Tensor:
    return change if change.norm() <= longest else change * (longest / change.norm())


def salmans_attack(network: nn.Module, part: Part, epsilon: float, steps: int) -> Tensor:
    found = []
    for image, label, noise in zip(*part[:3], strict=True):
        delta = torch.zeros_like(image)
        for _ in range(steps):
            g = gradient(network, image + delta, label, noise)
            delta = (image + delta + 2 * epsilon / steps * g / g.norm()).clamp(0, 1) - image
            delta = shortened(delta, epsilon)
        found.append(image + delta)
    return torch.stack(found)


def jeongs_attack(
    network: nn.Module, part: Part, length: float, steps: int, bound: float | None, added: float
) -> list[Tensor]:
    """The images after 0, 1, .. steps steps."""
    points = [part.images]
    for _ in range(steps):
        found = []
        for i, (image, label, noise) in enumerate(zip(*part[:3], strict=True)):
            g = gradient(network, points[-1][i], label, noise)
            point = points[-1][i] + length * g / (g.norm() + added)
            if bound is not None:
                point = image + shortened(point - image, bound)
            found.append(point.clamp(0, 1))
        points.append(torch.stack(found))
    return points


Update = Callable[[nn.Module, Part], Tensor]


def consistency(network: nn.Module, part: Part, epsilon: float | None = None) -> Tensor:
    images, b = part.images, len(part.images)
    if epsilon is not None:
        network.eval()
        # The mean over the part's images divides their gradients, but not the 1e-8.
        images = jeongs_attack(network, part, 2 * epsilon / 3, 3, epsilon, b * 1e-8)[-1]
        network.train()
    rows = torch.cat([images + part.noise[:, j] for j in range(M)])
    logits = network(rows)
    loss = F.cross_entropy(logits, part.labels.repeat(M))
    for i in range(b):
        p = [F.softmax(logits[j * b + i], dim=0) for j in range(M)]
        mean = torch.stack(p).mean(dim=0)
        kl = torch.stack([(mean * (mean.log() - q.log())).sum() for q in p]).mean()
        loss = loss + (10 * kl - 0.5 * (mean * mean.log()).sum()) / b
    return loss


def attacked_consistency(network: nn.Module, part: Part) -> Tensor:
    return consistency(network, part, epsilon=0.5 * (EPOCH + 1) / 10)


def smoothmix(network: nn.Module, part: Part, mix_step: int = 0) -> Tensor:
    warm, b = (EPOCH + 1) / 10, len(part.images)
    network.eval()
    points = jeongs_attack(network, part, 0.5, 3, None, 1e-8)
    network.train()
    moved = [
        shortened(change, warm * 0.5 * mix_step) for change in points[mix_step] - part.images
    ]  # fmt: skip
    clean = (part.images + torch.stack(moved)).clamp(0, 1)
    logits = network(torch.cat([clean + part.noise[:, j] for j in range(M)]))
    share = torch.rand(b, generator=part.generator) / 2
    shares = share.view(-1, 1, 1, 1)
    mixed = (1 - shares) * clean + shares * points[-1]
    of_mixes = network(torch.cat([mixed + part.noise[:, j] for j in range(M)]))
    loss = F.cross_entropy(logits, part.labels.repeat(M))
    for i in range(b):
        mean = torch.stack([F.softmax(logits[j * b + i], dim=0) for j in range(M)]).mean(dim=0)
        if int(mean.argmax()) != int(part.labels[i]):
            continue
        target = (1 - share[i]) * mean + share[i] / CLASSES
        for j in range(M):
            kl = (target * (target.log() - F.log_softmax(of_mixes[j * b + i], dim=0))).sum()
            loss = loss + 5 * warm * kl / (b * M)
    return loss


def one_step_smoothmix(network: nn.Module, part: Part) -> Tensor:
    return smoothmix(network, part, mix_step=1)


def two_step_smoothmix(network: nn.Module, part: Part) -> Tensor:
    return smoothmix(network, part, mix_step=2)


def macer(network: nn.Module, part: Part) -> Tensor:
    logits = network((part.images[:, None] + part.noise).flatten(0, 1)).unflatten(0, (-1, M))
    loss = torch.zeros(())
    quantile = Normal(0.0, 1.0).icdf
    for own, label in zip(logits, part.labels, strict=True):
        loss = loss - torch.log(F.softmax(own, dim=1).mean(dim=0)[label] + 1e-10)
        p = F.softmax(16 * own, dim=1).mean(dim=0)
        second, first = p.sort().values[-2:]
        change = quantile(second) - quantile(first)
        if int(p.argmax()) == int(label) and abs(change.item()) <= 8:
            loss = loss + 12 * SIGMA / 2 * (change + 8)
    return loss / len(part.images)


def smoothadv_of_all_noise(network: nn.Module, part: Part) -> Tensor:
    network.eval()
    adversarial = salmans_attack(network, part, 0.5 * (EPOCH + 1) / 10, 3)
    network.train()
    rows = (adversarial[:, None] + part.noise).flatten(0, 1)
    return F.cross_entropy(network(rows), part.labels.repeat_interleave(M))


def smoothadv_of_one_noise(network: nn.Module, part: Part) -> Tensor:
    """All of a loader's images; the loop attacks them in m parts, which changes nothing."""
    rows = []
    network.eval()
    for i in range(M):
        cut = slice(i * len(part.images) // M, (i + 1) * len(part.images) // M)
        own = Part(part.images[cut], part.labels[cut], part.noise[cut], part.generator)
        rows.append(salmans_attack(network, own, 0.5 * (EPOCH + 1) / 10, 3) + own.noise[:, 0])
    network.train()
    return F.cross_entropy(network(torch.cat(rows)), part.labels)


ADVERSARIAL = {"epsilon": 0.5, "steps": 3, "warmup_epochs": 10}
MIXED = {"m": M, "eta": 5.0, "steps": 3, "alpha": 0.5, "warmup_epochs": 10}

# The published update, in how many parts a loader's batch goes, an optimiser step each, and ours.
CASES: dict[str, tuple[Update, int, type[ClassifierTraining], dict[str, Any]]] = {
    "consistency": (consistency, M, ConsistencyTraining, {"m": M}),
    "attacked consistency": (
        attacked_consistency, M, ConsistencyTraining, {"m": M, **ADVERSARIAL},
    ),
    "smoothmix": (smoothmix, M, SmoothMixTraining, MIXED),
    "one-step smoothmix": (one_step_smoothmix, M, SmoothMixTraining, {**MIXED, "mix_step": 1}),
    "two-step smoothmix": (two_step_smoothmix, M, SmoothMixTraining, {**MIXED, "mix_step": 2}),
    "macer": (macer, 1, MacerTraining, {"k": M}),
    "smoothadv of all noise": (
        smoothadv_of_all_noise, M, SmoothAdvTraining,
        {"m_train": M, "train_multi_noise": True, **ADVERSARIAL},
    ),
    "smoothadv of one noise": (
        smoothadv_of_one_noise, 1, SmoothAdvTraining, {"m_train": M, **ADVERSARIAL},
    ),
}  # fmt: skip


@pytest.fixture
def in_the_fourth_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassifierTraining, "current_epoch", EPOCH)


def make(kind: type[ClassifierTraining], options: dict[str, Any]) -> Any:  # parts are replaced
    module: Any = kind(
        arch="cifar_resnet8", dataset="cifar10", sigma=SIGMA, flip=False, crop_padding=0, **options
    )
    module.classifier = make_network()
    module._is_logged = lambda: False
    return module


@pytest.mark.usefixtures("in_the_fourth_epoch")
@pytest.mark.parametrize("case", CASES)
def test_three_of_a_loaders_batches_move_the_weights_as_published(case: str) -> None:
    update, parts, kind, options = CASES[case]
    batch = 8  # of the published loader; ours has batch / parts images
    images, labels, noise = images_and_noise(3 * batch)

    def steps() -> Iterator[tuple[int, slice]]:
        size = batch // parts
        for step in range(3 * parts):
            yield step, slice(step * size, (step + 1) * size)

    published = make_network().train()
    optimizer = torch.optim.SGD(published.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step, cut in steps():
        generator = torch.Generator().manual_seed(step)
        loss = update(published, Part(images[cut], labels[cut], noise[cut], generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    module = make(kind, options)
    ours = module.new_optimizer()
    for step, cut in steps():
        own_noise = noise[cut].flatten(0, 1)
        module.noise = lambda x, g, own=own_noise: own
        module.generator = lambda seed=step: torch.Generator().manual_seed(seed)
        n = len(labels[cut])
        one = Batch(images[cut], labels[cut], torch.arange(n), torch.ones(n))
        ours.zero_grad()
        module.training_step(one, step).backward()
        ours.step()

    before = make_network().state_dict()
    for name, value in published.state_dict().items():
        moved = (value - before[name]).abs().max()
        difference = (module.classifier.state_dict()[name] - value).abs().max()
        assert moved > 0, name
        assert difference <= 2e-4 * moved, (name, float(difference), float(moved))


@pytest.mark.usefixtures("in_the_fourth_epoch")
@pytest.mark.parametrize("case", CASES)
def test_one_batch_has_the_published_gradients(case: str) -> None:
    update, parts, kind, options = CASES[case]
    images, labels, noise = images_and_noise(8 // parts)
    published = make_network().train()
    update(published, Part(images, labels, noise, torch.Generator().manual_seed(5))).backward()
    module = make(kind, options)
    module.noise = lambda x, g: noise.flatten(0, 1)
    losses = module.losses(images[:, None], labels, torch.Generator().manual_seed(5))
    losses.each.mean().backward()
    if isinstance(module, SmoothMixTraining):  # some answers are right, so that mixes count
        module.hparams.eta = 0.0
        plain = module.losses(images[:, None], labels, torch.Generator().manual_seed(5))
        assert 0 < int((losses.each > plain.each).sum()) < len(images)
    for (name, wanted), found in zip(
        published.named_parameters(), module.classifier.parameters(), strict=True
    ):
        assert wanted.grad is not None
        assert found.grad is not None
        difference = (found.grad - wanted.grad).norm() / wanted.grad.norm()
        assert difference < 1e-4, (name, float(difference))


class Weak(nn.Module):
    """Two classes, 1e-7 times the first pixel apart; the others are impossible."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((CLASSES,), -100.0))
        self.bias.data[:2] = 0

    def forward(self, images: Tensor) -> Tensor:
        slopes = torch.zeros(CLASSES)
        slopes[1] = 1e-7
        return self.bias + slopes * images[:, :1, 0, 0]


@pytest.mark.parametrize("b", [2, 32])
def test_consistencys_attack_adds_1e_8_to_the_norm_in_a_mean_over_the_batch(b: int) -> None:
    module = make(ConsistencyTraining, {"epsilon": 0.5, "steps": 8, "warmup_epochs": 0})
    module.classifier = Weak()
    module.noise = lambda x, g: torch.zeros_like(x)
    seen: list[Tensor] = []
    module.classifier.register_forward_pre_hook(lambda _, rows: seen.append(rows[0].detach()))
    images, labels = torch.full((b, 1, *SHAPE), 0.5), torch.zeros(b, dtype=torch.int64)
    module.losses(images, labels, torch.Generator())
    assert len(seen) == 8 + 1
    in_the_mean = 0.5 * 1e-7 / b  # p is 1/2
    step = (2 * 0.5 / 8) * in_the_mean / (in_the_mean + 1e-8)
    expected = torch.full((b * M, *SHAPE), 0.5)
    expected[:, 0, 0, 0] += step
    torch.testing.assert_close(seen[1], expected)


def test_consistencys_attack_wants_one_view() -> None:
    module = make(ConsistencyTraining, {"epsilon": 0.5})
    module.check_views(1)
    with pytest.raises(
        UserError, match=r"epsilon 0\.5 attacks one image, but there are 2 purified"
    ):
        module.check_views(2)
    images, labels, _ = images_and_noise(4)
    with pytest.raises(UserError, match="but there are 2 purified draws of each"):
        module.losses(torch.stack([images, images], dim=1), labels, torch.Generator())
    make(ConsistencyTraining, {}).check_views(2)


def test_consistencys_attack_runs_in_eval_mode_under_the_losss_noise() -> None:
    module = make(ConsistencyTraining, {"epsilon": 0.5, "steps": 2})
    seen: list[tuple[bool, Tensor]] = []
    module.classifier.register_forward_pre_hook(
        lambda network, rows: seen.append((network.training, rows[0].detach()))
    )
    images, labels, _ = images_and_noise(4)
    module.losses(images[:, None], labels, torch.Generator().manual_seed(0))
    assert [training for training, _ in seen] == [False, False, True]
    assert all(layer.training for layer in module.classifier.modules())
    noise = seen[0][1] - images.repeat_interleave(M, dim=0)
    assert 0.1 < noise.std() < 0.4
    adversarial = (seen[2][1] - noise).unflatten(0, (-1, M))
    torch.testing.assert_close(adversarial[:, 0], adversarial[:, 1])
    distance = (adversarial[:, 0] - images).flatten(1).norm(dim=1)
    assert (distance <= 0.05 + 1e-5).all()  # epoch 0 of ten
    assert distance.max() > 0.04


def test_macers_radius_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """lambda is 0 in the first epochs, and the radius is neither computed nor logged there."""
    images, labels, noise = images_and_noise(8)
    losses, logged = [], []
    for epoch, options in ((1, {"deferred_epochs": 2}), (2, {"deferred_epochs": 2}), (0, {})):
        monkeypatch.setattr(ClassifierTraining, "current_epoch", epoch)
        module = make(MacerTraining, {"k": M, **options})
        module.noise = lambda x, g: noise.flatten(0, 1)
        names: dict[str, Any] = {}
        module.log = names.__setitem__
        losses.append(module.losses(images[:, None], labels, torch.Generator()).each)
        logged.append({name: torch.as_tensor(value).item() for name, value in names.items()})
    assert logged[0] == {"train/radius_weight": 0}
    assert logged[1] == logged[2]
    assert logged[1]["train/radius_weight"] == 12
    torch.testing.assert_close(losses[1], losses[2])
    radius = (losses[1] - losses[0]).mean().item()
    assert radius == pytest.approx(12 * logged[1]["train/radius_loss"], rel=1e-4)
    assert radius > 0
    logits = (images[:, None] + noise).flatten(0, 1)
    with torch.no_grad():
        p = F.softmax(make_network()(logits), dim=1).unflatten(0, (-1, M)).mean(dim=1)
    torch.testing.assert_close(losses[0], F.nll_loss(p.log(), labels, reduction="none"))


def test_macers_gradient_is_float32s_under_autocast() -> None:
    """Within 1e-4 of float64's; a network in bfloat16 is off by a hundredth, whatever follows."""

    def gradient_of(module: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):  # as Lightning does: not the way back
            loss = module.losses(images[:, None], labels, torch.Generator()).each.mean()
        loss.backward()
        grads = [p.grad for p in module.classifier.parameters()]
        return torch.cat([g.flatten().double() for g in grads if g is not None])

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_network()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):  # once more
                logits: Tensor = self.network(x)
            return logits

    images, labels, noise = images_and_noise(16)

    def make_macer(network: nn.Module) -> Any:
        module = make(MacerTraining, {"k": M})
        module.classifier = network
        module.noise = lambda x, g: noise.flatten(0, 1)
        return module

    exact = make_network().double().train()
    macer(exact, Part(images.double(), labels, noise.double(), torch.Generator())).backward()
    grads = [p.grad for p in exact.parameters()]
    truth = torch.cat([g.flatten() for g in grads if g is not None])
    ours = gradient_of(make_macer(make_network()))
    assert (ours - truth).norm() < 1e-4 * truth.norm()
    rounded = gradient_of(make_macer(Rounded()))
    assert (rounded - truth).norm() > 5e-3 * truth.norm()


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_macer_is_not_trained_with_weights_of_16_bits(precision: str) -> None:
    module = MacerTraining(arch="cifar_resnet8")
    module.trainer = SimpleNamespace(precision=precision)  # type: ignore[assignment]
    with pytest.raises(UserError, match=f"{precision} is not for MACER"):
        module.setup("fit")
