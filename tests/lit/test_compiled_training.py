"""A compiled training is the same training; what fails to compile is an error."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import make_data, make_trainer
from torch import Tensor, nn

from diffsmooth.lit.training import (
    AverageWeights,
    DiffusionTraining,
    GaussianTraining,
    SmoothAdvTraining,
    compiling,
)
from diffsmooth.lit.training.compiling import compile_for_steps
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models import load_classifier
from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # torch's, of what it looks at
)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Of the images of each graph, which is run as it was traced: the arithmetic is the same."""
    found: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        found.append(next(tuple(x.shape) for x in inputs if x.ndim == 4 and x.shape[-1] == 32))
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    return found


def fit(module: TrainingModule, folder: Path, root: Path) -> TrainingModule:
    callbacks = [AverageWeights(0.5), ModelCheckpoint(folder, save_last=True)]
    trainer = make_trainer(folder, 1, callbacks=callbacks, limit_train_batches=2)
    trainer.fit(module, datamodule=make_data(root))
    return module


def gaussian(**options: Any) -> GaussianTraining:
    torch.manual_seed(0)
    return GaussianTraining("cifar_resnet8", **options)


def smoothadv(**options: Any) -> SmoothAdvTraining:
    torch.manual_seed(0)
    return SmoothAdvTraining(arch="cifar_resnet8", steps=1, m_train=2, **options)


def diffusion(**options: Any) -> DiffusionTraining:
    torch.manual_seed(0)
    return DiffusionTraining(overrides=dict(TINY_UNET), psnr_sigmas=(), **options)


@pytest.mark.parametrize(("make", "graphs"), [(gaussian, 1), (smoothadv, 2), (diffusion, 1)])
def test_weights_and_checkpoints_are_those_of_a_training_without(
    make: Callable[..., TrainingModule],
    graphs: int,
    tmp_path: Path,
    root: Path,
    shapes: list[tuple[int, ...]],
) -> None:
    plain = fit(make(), tmp_path / "plain", root)
    assert shapes == []
    compiled = fit(make(compile=True), tmp_path / "compiled", root)
    assert shapes == [(32, 1, 32, 32)] * graphs  # steps alone: validation has the same size here
    if make is diffusion:  # the U-Net chooses other orders of memory where it is not compiled
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(compiled.state_dict()[key], value, rtol=1e-3, atol=1e-5)
    else:
        same(plain.state_dict(), compiled.state_dict())
    assert compiled.network._compiled_call_impl is None  # after the training
    files = [torch.load(tmp_path / how / "last.ckpt") for how in ("plain", "compiled")]
    for key in ("state_dict", "current_model_state", "hyper_parameters"):
        assert files[0][key].keys() == files[1][key].keys()
    loaded = type(compiled).load_from_checkpoint(tmp_path / "compiled" / "last.ckpt")
    assert not loaded.compiled
    same(loaded.state_dict(), compiled.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


class Unwilling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print(x.sum().item())  # breaks a graph, of which torch says nothing
        return x


@pytest.mark.parametrize("suppressed", [False, True])
def test_what_is_not_compiled_whole_raises_whatever_torch_is_told(
    suppressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction")

    torch._dynamo.reset()
    network, x = nn.Linear(2, 2), torch.ones(1, 2)
    with torch._dynamo.config.patch(suppress_errors=suppressed):
        monkeypatch.setattr(compiling, "BACKEND", failing)
        compile_for_steps(network)
        with pytest.raises(Exception, match="no such instruction"):
            network(x)
        monkeypatch.setattr(compiling, "BACKEND", "eager")
        broken = Unwilling()
        compile_for_steps(broken)
        with pytest.raises(torch._dynamo.exc.Unsupported):
            broken(x)
    assert torch.equal(copy.deepcopy(network)(x), network._call_impl(x))  # copies are as they were
    with torch.no_grad():
        assert torch.equal(network(x), network._call_impl(x))
    disabled = torch._dynamo.config.patch(disable=True)
    with disabled, pytest.raises(UserError, match="TORCH_COMPILE_DISABLE"):
        compile_for_steps(network)


@pytest.mark.slow
def test_by_torchs_own_compiler_losses_agree_to_rounding(tmp_path: Path, root: Path) -> None:
    plain = fit(gaussian(), tmp_path / "plain", root)
    compiled = fit(gaussian(compile=True), tmp_path / "compiled", root)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=0.02, atol=2e-3)
    load_classifier(tmp_path / "compiled" / "last.ckpt")(torch.zeros(2, *FASHION_MNIST.image_shape))
