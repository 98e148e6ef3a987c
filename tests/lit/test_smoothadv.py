import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from stripes import StopAfter, make_data, make_trainer
from torch import Tensor, nn

from diffsmooth.lit.training import SmoothAdvTraining, smoothadv
from diffsmooth.lit.training.learning_rate import LearningRate

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


def make_module(**kwargs: Any) -> SmoothAdvTraining:
    torch.manual_seed(0)
    return SmoothAdvTraining(
        arch="cifar_resnet8",
        sigma=0.25,
        flip=False,
        crop_padding=0,
        learning_rate=LearningRate("cosine"),
        **kwargs,
    )


class Spy(pl.Callback):
    """Records what the network and the attack see in each training step."""

    def __init__(self, module: SmoothAdvTraining) -> None:
        self.attacked: list[Tensor] = []  # inputs in eval mode: the attack's
        self.updates: list[Tensor] = []  # inputs in train mode
        self.images: list[Tensor] = []
        self.noise: list[Tensor] = []
        self.adversarial: list[Tensor] = []
        self.statistics_moved = False
        module.classifier.register_forward_pre_hook(self._see)
        perturb = module.perturb

        def spied(images: Tensor, labels: Tensor, noise: Tensor, generator: Any) -> Tensor:
            before = [buffer.clone() for buffer in module.classifier.buffers()]
            adversarial = perturb(images, labels, noise, generator)
            same = map(torch.equal, before, module.classifier.buffers())
            self.statistics_moved |= not all(same)
            self.images.append(images)
            self.noise.append(noise)
            self.adversarial.append(adversarial)
            return adversarial

        module.perturb = spied  # type: ignore[method-assign]

    def _see(self, network: nn.Module, inputs: tuple[Tensor]) -> None:
        (self.updates if network.training else self.attacked).append(inputs[0].detach())


def fit_one_epoch(module: SmoothAdvTraining, tmp_path: Path, root: Path, **kwargs: Any) -> Spy:
    spy = Spy(module)
    trainer = make_trainer(tmp_path, 1, limit_val_batches=0, callbacks=[spy], **kwargs)
    trainer.fit(module, datamodule=make_data(root))
    assert trainer.global_step == 4  # 128 images, 32 a batch, whatever m_train is
    return spy


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["pgd", "ddn", "gradient_free"])
def test_smoothadv_learns(attack: smoothadv.Attack, tmp_path: Path, root: Path) -> None:
    module = make_module(attack=attack, epsilon=0.5, m_train=2, warmup_epochs=2)
    trainer = make_trainer(tmp_path, 6)
    trainer.fit(module, datamodule=make_data(root))
    assert trainer.callback_metrics["val/noisy_accuracy"] > 0.9


def test_all_noise_vectors_are_attacked_and_trained_on(tmp_path: Path, root: Path) -> None:
    module = make_module(m_train=3, train_multi_noise=True, epsilon=0.5, steps=2)
    spy = fit_one_epoch(module, tmp_path, root)
    assert [len(rows) for rows in spy.updates] == [96] * 4
    assert [len(rows) for rows in spy.attacked] == [96] * 8
    for i in range(4):
        noisy = spy.adversarial[i].repeat_interleave(3, dim=0) + spy.noise[i]
        assert torch.equal(spy.updates[i], noisy)
        clean = spy.images[i].repeat_interleave(3, dim=0) + spy.noise[i]
        assert torch.equal(spy.attacked[2 * i], clean)
        assert not torch.equal(spy.adversarial[i], spy.images[i])
    assert not torch.equal(spy.noise[0], spy.noise[1])


def test_one_noise_vector_of_the_attacked_ones_is_trained_on(tmp_path: Path, root: Path) -> None:
    module = make_module(m_train=3, epsilon=0.5, steps=2)
    spy = fit_one_epoch(module, tmp_path, root)
    assert [len(rows) for rows in spy.updates] == [32] * 4
    # The attack's memory is that of about 32 rows: 11, 11 and 10 images with 3 vectors each.
    assert [len(rows) for rows in spy.attacked] == [33, 33, 33, 33, 30, 30] * 4
    for i in range(4):
        assert spy.noise[i].shape == (96, 1, 32, 32)
        assert torch.equal(spy.updates[i], spy.adversarial[i] + spy.noise[i][::3])
        seen = torch.cat([spy.attacked[6 * i + part] for part in (0, 2, 4)])
        assert torch.equal(seen, spy.images[i].repeat_interleave(3, dim=0) + spy.noise[i])


def test_the_attack_leaves_batch_norm_and_mode_alone(tmp_path: Path, root: Path) -> None:
    module = make_module(m_train=2, steps=3)
    spy = fit_one_epoch(module, tmp_path, root)
    assert not spy.statistics_moved
    assert all(layer.training for layer in module.classifier.modules())
    counters = [b for name, b in module.named_buffers() if name.endswith("num_batches_tracked")]
    assert counters
    assert all(counter == 4 for counter in counters)  # one update each step


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["pgd", "ddn", "gradient_free"])
def test_mixed_precision(attack: smoothadv.Attack, tmp_path: Path, root: Path) -> None:
    module = make_module(attack=attack, m_train=2, epsilon=1.0)
    before = {name: p.clone() for name, p in module.named_parameters()}
    spy = fit_one_epoch(module, tmp_path, root, precision="bf16-mixed", log_every_n_steps=1)
    for tensors in (spy.images, spy.noise, spy.adversarial):
        assert all(x.dtype == torch.float32 for x in tensors)
    # What runs without gradients (the success rate, gradient_free) must not cut the weights off.
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_epsilon_warms_up_by_epoch(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module(epsilon=0.8, warmup_epochs=4)
    assert [module.epsilon_at(epoch) for epoch in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    assert make_module(epsilon=0.8).epsilon_at(0) == 0.8
    seen = []

    def attack(model: nn.Module, images: Tensor, labels: Tensor, **kwargs: Any) -> Tensor:
        seen.append(kwargs["epsilon"])
        return images

    monkeypatch.setitem(smoothadv.ATTACKS, "pgd", attack)
    trainer = make_trainer(tmp_path, 2, limit_train_batches=2, limit_val_batches=0)
    trainer.fit(make_module(epsilon=0.8, warmup_epochs=4), datamodule=make_data(root))
    assert seen == pytest.approx([0.2, 0.2, 0.4, 0.4])


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, root: Path) -> None:
    def fit(folder: str, ckpt_path: Path | None = None, *more: pl.Callback) -> SmoothAdvTraining:
        module = make_module(m_train=2, epsilon=0.5, warmup_epochs=3)
        callbacks = [ModelCheckpoint(tmp_path / folder, save_last=True), *more]
        make_trainer(tmp_path, 3, callbacks=callbacks).fit(
            module, datamodule=make_data(root), ckpt_path=ckpt_path
        )
        return module

    whole = fit("whole")
    broken = fit("parts", None, StopAfter(2))
    resumed = fit("parts", tmp_path / "parts" / "last.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    assert not torch.equal(whole.classifier[1].fc.weight, broken.classifier[1].fc.weight)


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above 0.5, surer the farther from it."""

    def forward(self, x: Tensor) -> Tensor:
        score = 50 * (x.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([-score, score], dim=1)


def test_attack_success_by_hand() -> None:
    module = make_module(m_train=3)
    module.classifier = nn.Sequential(Threshold())
    images = torch.tensor([1.0, 0.6, 0.4, 0.4]).view(4, 1, 1, 1)
    adversarial = torch.tensor([0.6, 0.4, 0.3, 0.6]).view(4, 1, 1, 1)
    labels = torch.tensor([1, 1, 1, 0])  # the third is wrong from the start
    # The smoothed prediction is a mean of softmaxes: neither of logits nor of the noisy images.
    noise = torch.tensor([-0.05, -0.05, -0.4]).repeat(4).view(12, 1, 1, 1)
    success = module._attack_success(images, adversarial, labels, noise)
    assert float(success) == pytest.approx(2 / 3)
    nothing_right = module._attack_success(images[:1], adversarial[:1], labels[3:], noise[:3])
    assert nothing_right == 0


def test_attack_success_is_logged_where_the_logger_looks(tmp_path: Path, root: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    module = make_module(epsilon=1.0)
    fit_one_epoch(module, tmp_path, root, logger=logger, log_every_n_steps=2)
    with open(tmp_path / "metrics.csv") as lines:
        rows = list(csv.DictReader(lines))
    logged = {row["step"]: float(row["train/attack_success"]) for row in rows if row["train/loss"]}
    assert set(logged) == {"1", "3"}
    assert all(0 <= value <= 1 for value in logged.values())
    fit_one_epoch(make_module(), tmp_path, root, log_every_n_steps=0)  # never


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"attack": "fgsm"}, "unknown attack 'fgsm': known are pgd, ddn, gradient_free"),
        ({"epsilon": 0.0}, r"epsilon must be > 0 and finite, got 0\.0"),
        ({"epsilon": float("nan")}, "epsilon must be > 0 and finite, got nan"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"m_train": 0}, "m_train must be at least 1, got 0"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, got -1"),
        ({"sigma": -1.0}, r"sigma must be in 0 \.\. 1e\+06, got -1"),
        ({"attack": "gradient_free", "sigma": 0.0}, "gradient_free needs sigma > 0"),
        ({"attack": "gradient_free"}, "gradient_free needs m_train of at least 2, got 1"),
    ],
)
def test_out_of_range_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothAdvTraining(arch="cifar_resnet8", **kwargs)
