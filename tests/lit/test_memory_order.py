"""Classifiers are trained channels last, whatever a batch's order in memory and its views are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsmooth.lit.training import ConsistencyTraining, SmoothAdvTraining

KINDS: list[tuple[type, dict[str, Any]]] = [
    (ConsistencyTraining, {"m": 3}),
    (SmoothAdvTraining, {"steps": 1, "m_train": 2, "train_multi_noise": True}),
]


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_all_convolutions_but_the_first_see_channels_last(
    kind: type, options: dict[str, Any], views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = kind(arch="cifar_resnet8", dataset="cifar10", **options)
    monkeypatch.setattr(module, "_is_logged", lambda: False, raising=False)
    monkeypatch.setattr(kind, "current_epoch", 0)
    seen: list[bool] = []

    def look(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    convolutions = [m for m in module.classifier.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions[1:]:
        conv.register_forward_hook(look)
    batch, labels = torch.rand(4, views, 3, 32, 32), torch.arange(4)
    losses = module.losses(batch, labels, torch.Generator().manual_seed(0))
    losses.each.mean().backward()
    assert len(seen) >= len(convolutions) - 1
    assert all(seen)
    for parameter in module.classifier.parameters():
        assert parameter.grad is not None
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
