"""The training methods' losses against their equations, and each method from end to end."""

import itertools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy, norm
from stripes import StopAfter, make_data, make_trainer
from torch import Tensor, nn

from diffsmooth.lit.data.images import Batch, DataError
from diffsmooth.lit.training import (
    ConsistencyTraining,
    GaussianTraining,
    MacerTraining,
    SmoothAdvTraining,
    SmoothMixTraining,
    StabilityTraining,
)
from diffsmooth.lit.training.classifier import ClassifierTraining
from diffsmooth.lit.training.consistency import consistency
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.macer import margin_hinge
from diffsmooth.models import load_classifier
from diffsmooth.models.attacks import ascent_l2
from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
    "ignore:.*`self.trainer` reference is not registered",
)

METHODS: dict[str, tuple[type[ClassifierTraining], dict[str, Any]]] = {
    "gaussian": (GaussianTraining, {}),
    "stability": (StabilityTraining, {}),
    "consistency": (ConsistencyTraining, {"weight": 1.0}),
    "macer": (MacerTraining, {"k": 4, "weight": 1.0}),
    "smoothadv": (SmoothAdvTraining, {"epsilon": 0.25}),
    "smoothmix": (SmoothMixTraining, {"eta": 1.0, "warmup_epochs": 2}),
}


def make(method: str, **changes: Any) -> ClassifierTraining:
    torch.manual_seed(0)
    kind, options = METHODS[method]
    fixed = {"arch": "cifar_resnet8", "sigma": 0.25, "flip": False, "crop_padding": 0}
    return kind(learning_rate=LearningRate("cosine"), **(fixed | options | changes))


class Case:
    """A method with a small linear network, on three images of two views."""

    def __init__(self, method: str, views: int = 1, **changes: Any) -> None:
        self.module = make(method, **changes)
        self.module.classifier = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
        generator = torch.Generator().manual_seed(1)
        self.views = torch.rand(3, views, 3, 2, 2, generator=generator)
        self.labels = torch.tensor([0, 3, 1])
        self.seen: list[Tensor] = []  # what the network saw
        self.module.classifier.register_forward_pre_hook(self._see)

    def _see(self, network: nn.Module, inputs: tuple[Tensor]) -> None:
        self.seen.append(inputs[0].detach().clone())

    def losses(self) -> np.ndarray:
        found = self.module.losses(self.views, self.labels, torch.Generator().manual_seed(2))
        assert found.each.shape == (3,)
        assert found.logits.shape == (3, 4)
        found.each.sum().backward()
        for parameter in self.module.classifier.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        return found.each.detach().numpy()

    def logits(self, images: Tensor) -> np.ndarray:
        with torch.no_grad():
            return self.module.classifier[1](images.flatten(1)).double().numpy()

    def noisy_logits(self, call: int, m: int) -> np.ndarray:
        """(3, m, 4) of what the network saw in a call."""
        return self.logits(self.seen[call]).reshape(3, m, 4)


def cross_entropy(logits: np.ndarray, labels: Tensor) -> np.ndarray:
    return np.array([-log_softmax(row)[y] for row, y in zip(logits, labels.tolist(), strict=True)])


def test_gaussian_by_hand() -> None:
    case = Case("gaussian")
    losses = case.losses()
    expected = cross_entropy(case.noisy_logits(0, 1)[:, 0], case.labels)
    np.testing.assert_allclose(losses, expected, 1e-5)
    noise = case.seen[0] - case.views[:, 0]
    draw = torch.randn(noise.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(noise, 0.25 * draw, rtol=0, atol=1e-6)


def test_stability_by_hand() -> None:
    case = Case("stability", weight=2.0)
    losses = case.losses()
    assert torch.equal(case.seen[0], case.views[:, 0])
    clean, noisy = case.noisy_logits(0, 1)[:, 0], case.noisy_logits(1, 1)[:, 0]
    change = -(softmax(clean, axis=1) * log_softmax(noisy, axis=1)).sum(axis=1)
    np.testing.assert_allclose(losses, cross_entropy(clean, case.labels) + 2 * change, 1e-5)


def test_stabilitys_gradient_goes_through_both_answers() -> None:
    """The gradient is that of the whole loss, by finite differences."""
    case = Case("stability", weight=2.0)
    case.module.classifier = nn.Sequential(nn.Flatten(), Bias())
    case.losses()
    bias = case.module.classifier[1].bias
    gradient = bias.grad.clone()
    for k in range(4):
        values = []
        for step in (1e-2, -1e-2):
            bias.data.zero_()[k] = step
            values.append(case.losses().sum())
        assert gradient[k] == pytest.approx((values[0] - values[1]) / 2e-2, abs=1e-3)


class Bias(nn.Module):
    """The first four pixels plus a bias are the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, flat: Tensor) -> Tensor:
        return flat[:, :4] + self.bias


def test_consistency_has_a_gradient_where_a_class_is_impossible() -> None:
    logits = torch.tensor([[[200.0, 0.0], [150.0, 0.0]]], requires_grad=True)
    spread, entropy_ = consistency(logits.log_softmax(dim=2))
    (spread + entropy_).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_consistency_by_hand() -> None:
    case = Case("consistency", m=3, weight=10.0, entropy_weight=0.5)
    losses = case.losses()
    logits = case.noisy_logits(0, 3)
    for i in range(3):
        p = softmax(logits[i], axis=1)
        mean = p.mean(axis=0)
        fit = np.mean([-np.log(row[case.labels[i]]) for row in p])
        spread = np.mean([rel_entr(mean, row).sum() for row in p])
        assert losses[i] == pytest.approx(fit + 10 * spread + 0.5 * entropy(mean), rel=1e-5)


def test_copies_are_of_different_purified_draws() -> None:
    case = Case("consistency", views=2, m=3)
    case.losses()
    copies = case.seen[0].view(3, 3, 3, 2, 2)
    noise = copies - case.views[:, [0, 1, 0]]
    assert noise.abs().max() < 1.5  # 0.25 times a normal draw
    assert noise.std() == pytest.approx(0.25, rel=0.3)
    assert len(noise.unique()) == noise.numel()


def test_macer_by_hand() -> None:
    case = Case("macer", k=4, weight=12.0, gamma=8.0, beta=16.0)
    answers = case.logits(case.views[:, 0]).argmax(axis=1)
    case.labels = torch.tensor([answers[0], (answers[1] + 1) % 4, answers[2]])
    losses = case.losses()
    logits = case.noisy_logits(0, 4)
    counted: list[bool] = []
    for i in range(3):
        fit = -np.log(softmax(logits[i], axis=1).mean(axis=0)[case.labels[i]] + 1e-10)
        q = softmax(16 * logits[i], axis=1).mean(axis=0)
        second, first = np.sort(q)[-2:]
        margin = norm.ppf(first) - norm.ppf(second)
        counted.append(bool(q.argmax() == case.labels[i] and margin <= 8))
        hinge = 8 - margin if counted[-1] else 0.0
        assert losses[i] == pytest.approx(fit + 12 * 0.25 / 2 * hinge, rel=1e-4)
    assert counted == [True, False, True]


def test_macers_hinge_counts_only_where_it_should() -> None:
    p = torch.tensor(
        [
            [0.6, 0.3, 0.1],  # right, small margin
            [0.3, 0.6, 0.1],  # wrong
            [0.999, 0.001, 0.0],  # right, margin 6.2
            [1.0, 0.0, 0.0],  # infinite margin
        ],
        requires_grad=True,
    )
    hinge = margin_hinge(p, torch.zeros(4, dtype=torch.int64), gamma=5.0)
    expected = 5 - (norm.ppf(0.6) - norm.ppf(0.3))
    assert hinge.tolist() == pytest.approx([expected, 0, 0, 0], rel=1e-5)
    hinge.sum().backward()
    assert p.grad is not None
    slopes = [-1 / norm.pdf(norm.ppf(0.6)), 1 / norm.pdf(norm.ppf(0.3)), 0]
    np.testing.assert_allclose(p.grad[0], slopes, 1e-4)
    assert (p.grad[1:] == 0).all()


def test_smoothmix_by_hand() -> None:
    case = Case("smoothmix", m=2, eta=5.0, steps=3, alpha=0.5, warmup_epochs=10)
    losses = case.losses()
    *attack, plain, mixed = case.seen
    assert len(attack) == 3
    noise = plain - case.views[:, 0].repeat_interleave(2, dim=0)
    assert torch.equal(attack[0], plain)  # the attack starts there, under the same noise
    shift = (mixed - plain).view(3, 2, 3, 2, 2)
    torch.testing.assert_close(shift[:, 0], shift[:, 1])  # mixed once, then the same noise
    mix = (mixed - noise).view(3, 2, 3, 2, 2)[:, 0]
    for before, after in itertools.pairwise(attack):
        steps = (after - before).flatten(1).norm(dim=1)
        assert (steps <= 0.5 + 1e-5).all()
        assert steps.max() > 0.1
    # The draw of lambda comes after the noise; the attack draws nothing.
    generator = torch.Generator().manual_seed(2)
    torch.randn(6, 3, 2, 2, generator=generator)
    share = (torch.rand(3, generator=generator) / 2).double().numpy()
    adversarial = ascent_l2(case.module.classifier, case.views[:, 0], case.labels, 0.5, 3, noise, 2)
    for i in range(3):
        expected = case.views[i, 0] + float(share[i]) * (adversarial[i] - case.views[i, 0])
        torch.testing.assert_close(mix[i], expected, rtol=1e-4, atol=1e-5)
    logits, of_mix = case.noisy_logits(3, 2), case.noisy_logits(4, 2)
    for i in range(3):
        p = softmax(logits[i], axis=1)
        mean, y = p.mean(axis=0), int(case.labels[i])
        fit = np.mean(-np.log(p[:, y]))
        target = (1 - share[i]) * mean + share[i] / 4
        kl = np.mean([rel_entr(target, softmax(row)).sum() for row in of_mix[i]])
        right = mean.argmax() == y
        assert losses[i] == pytest.approx(fit + 5.0 / 10 * right * kl, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_resumes_exactly(method: str, tmp_path: Path, root: Path) -> None:
    def fit(folder: str, ckpt_path: Path | None = None, *more: pl.Callback) -> ClassifierTraining:
        module = make(method)
        callbacks = [ModelCheckpoint(tmp_path / folder, save_last=True), *more]
        trainer = make_trainer(tmp_path, 4, callbacks=callbacks)
        trainer.fit(module, datamodule=make_data(root), ckpt_path=ckpt_path)
        assert trainer.callback_metrics["val/noisy_accuracy"] > 0.4 or more  # of four classes
        return module

    whole = fit("whole")
    fit("parts", None, StopAfter(2))
    resumed = fit("parts", tmp_path / "parts" / "last.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_fine_tuning_takes_all_but_a_head_of_other_classes(classifier_file: Path) -> None:
    stored = load_classifier(classifier_file)
    same = make("gaussian", pretrained=str(classifier_file))
    for value, other in zip(
        stored.state_dict().values(), same.classifier.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other)


def test_fine_tuning_behind_another_input_layer_is_told(
    classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer, mean, told in (
        ("standard", 0.286, ""),
        ("none", 0.286, "was trained behind input layer standard, not none"),
        ("standard", 0.5, "behind input layer standard of fashion_mnist, not standard"),
    ):
        info = FASHION_MNIST._replace(mean=(mean,))
        GaussianTraining("cifar_resnet8", info, input_layer=layer, pretrained=str(classifier_file))
        said = capsys.readouterr()
        assert (told in said.out + said.err) if told else not said.out + said.err


def test_a_head_of_other_classes_is_new(
    classifier_file: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "three.npz"
    images = rng.integers(0, 256, (9, 32, 32), np.uint8)
    np.savez(path, images=images, labels=np.arange(9) % 3)
    module = GaussianTraining(
        "cifar_resnet8", str(path), input_layer="none", pretrained=str(classifier_file)
    )
    stored = load_classifier(classifier_file).state_dict()
    for key, value in module.classifier.state_dict().items():
        if key.startswith("1.fc"):
            assert len(value) == 3
        else:
            assert torch.equal(value, stored[key])
    with pytest.raises(ValueError, match="do not fit"):
        GaussianTraining("cifar_resnet14", pretrained=str(classifier_file))


def test_weights_count_in_the_loss(tmp_path: Path, root: Path) -> None:
    """Extra images of weight 0 leave but the size of the batch in the gradient."""
    gradients = []
    for weights in ([1.0, 1.0, 0.0, 0.0], [2.0, 2.0]):
        module = make("gaussian", sigma=0.0)
        module.classifier = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        torch.manual_seed(0)
        nn.init.normal_(module.classifier[1].weight)
        n = len(weights)
        images = torch.linspace(0, 1, 48).view(4, 3, 2, 2)[:n]
        batch = Batch(images, torch.arange(4)[:n], torch.arange(n), torch.tensor(weights).double())
        module.generator = lambda: torch.Generator()  # type: ignore[method-assign]
        loss = module.training_step(batch, 0)
        assert loss.dtype == torch.float32
        loss.backward()
        gradients.append(module.classifier[1].weight.grad * n)
    torch.testing.assert_close(2 * gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("stability", {"weight": -1}, "weight must be at least 0, got -1"),
        ("consistency", {"m": 1}, "m must be at least 2, got 1"),
        ("consistency", {"entropy_weight": -1}, "entropy_weight must be at least 0"),
        ("consistency", {"epsilon": 0.0}, r"epsilon must be > 0 and finite, or null, got 0\.0"),
        ("consistency", {"epsilon": float("nan")}, "epsilon must be > 0 and finite, or null"),
        ("consistency", {"epsilon": 1.0, "steps": 0}, "steps must be at least 1, got 0"),
        ("consistency", {"epsilon": 1.0, "warmup_epochs": -1}, "warmup_epochs must be at least 0"),
        ("macer", {"k": 0}, "k must be at least 1"),
        ("macer", {"gamma": 0}, "gamma must be > 0"),
        ("macer", {"sigma": 0.0}, "sigma must be > 0"),
        ("macer", {"deferred_epochs": -1}, "deferred_epochs must be at least 0, got -1"),
        ("smoothmix", {"alpha": 0.0}, "alpha must be > 0"),
        ("smoothmix", {"steps": 0}, "steps must be at least 1"),
        ("smoothmix", {"m": 0}, "m must be at least 1"),
        ("smoothmix", {"mix_step": -1}, r"mix_step must be in 0 \.\. 3 \(steps - 1\), got -1"),
        ("smoothmix", {"mix_step": 2, "steps": 2}, r"mix_step must be in 0 \.\. 1 .*, got 2"),
        ("gaussian", {"sigma": -0.1}, r"sigma must be in 0 \.\. 1e\+06, got -0\.1"),
        ("gaussian", {"pretrained": "nowhere.pt"}, "nowhere.pt: no such checkpoint"),
    ],
)
def test_mistakes_are_named(method: str, change: dict[str, Any], message: str) -> None:
    kind, options = METHODS[method]
    with pytest.raises(ValueError, match=message):
        kind(**(options | change))


def test_validation_has_an_images_own_noise_in_each_epoch(tmp_path: Path, root: Path) -> None:
    module = make("gaussian")
    seen: list[Tensor] = []
    draws = module.draws

    def spied(keys: list[NoiseKey], count: int, shape: torch.Size) -> Tensor:
        seen.append(draws(keys, count, shape))
        return seen[-1]

    module.draws = spied  # type: ignore[method-assign]
    data = make_data(root)
    trainer = make_trainer(tmp_path, 2)
    trainer.fit(module, datamodule=data)
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    held_out = [sample.original_index for sample in data.validation]  # type: ignore[attr-defined]
    for index, own in zip(held_out, seen[0], strict=True):
        key = NoiseKey(0, "evaluate", "fashion_mnist", "val", index)
        assert torch.equal(own, draw_noise(key, 1, (1, 32, 32)))
    trainer.test(module, datamodule=data, verbose=False)
    assert not torch.equal(seen[2][0], seen[0][0])


def test_another_training_is_not_resumed(tmp_path: Path, root: Path) -> None:
    saving = ModelCheckpoint(tmp_path / "run", save_last=True)
    make_trainer(tmp_path, 1, callbacks=[saving]).fit(make("gaussian"), datamodule=make_data(root))
    last = str(tmp_path / "run" / "last.ckpt")
    for other, message in (
        (make("gaussian", sigma=0.5), r"was trained with sigma 0\.25, not 0\.5"),
        (make("stability"), "was trained with method 'GaussianTraining', not 'StabilityTraining'"),
        (make("gaussian", arch="cifar_resnet14"), "was trained with arch 'cifar_resnet8'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_trainer(tmp_path, 2).fit(other, datamodule=make_data(root), ckpt_path=last)


def test_epochs_of_the_learning_rate_under_accumulation(tmp_path: Path, root: Path) -> None:
    module = GaussianTraining(
        "cifar_resnet8", sigma=0.1, learning_rate=LearningRate("step", step_epochs=1, gamma=0.5)
    )
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = make_trainer(tmp_path, 2, callbacks=[Rates()], accumulate_grad_batches=3)
    trainer.fit(module, datamodule=make_data(root))  # 4 batches, 2 steps an epoch
    # After each batch, the rate of the next step.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025])


def test_only_whole_batches_of_fewer_images_than_a_batch_are_refused(
    tmp_path: Path, root: Path
) -> None:
    data = make_data(root)
    data.batch_size, data.drop_last = 200, True
    with pytest.raises(DataError, match="128 training images a device, too few for the batch of"):
        make_trainer(tmp_path, 1).fit(make("gaussian"), datamodule=data)
