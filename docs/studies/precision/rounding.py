"""Training as under bf16-mixed on a machine whose CPU has no bf16: rounded, computed in float32.

Hardware multiplies bf16 numbers exactly, adds in float32 and rounds the sum to bf16. So a float32
layer whose inputs, weights and output are rounded to bf16, and their gradients on the way back,
makes what `--trainer.precision bf16-mixed` makes, up to the order of the additions.

    PYTHONPATH=docs/studies/precision python train.py fit -c configs/train/fashion_mnist_gaussian.yaml \\
        --trainer.precision 32-true --trainer.callbacks+=rounding.RoundToBfloat16
"""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.classifiers.cifar_resnet import BasicBlock


class _Round(torch.autograd.Function):
    """To the nearest bf16 number, and so the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.bfloat16().float()


def rounded(x: Tensor) -> Tensor:
    return _Round.apply(x)  # type: ignore[no-any-return]


class RoundToBfloat16(pl.Callback):
    """Rounds what autocast would hand on in bf16: of convolutions, linear layers, norms, blocks."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        for layer in module.network.modules():  # type: ignore[operator,union-attr]
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.forward = self._layer(layer)  # type: ignore[method-assign]
            if isinstance(layer, (nn.BatchNorm2d, BasicBlock)):
                layer.register_forward_hook(lambda layer, inputs, output: rounded(output))

    def _layer(self, layer: nn.Conv2d | nn.Linear) -> Any:
        def forward(x: Tensor) -> Tensor:
            weight = rounded(layer.weight)
            bias = None if layer.bias is None else rounded(layer.bias)
            if isinstance(layer, nn.Linear):
                return rounded(F.linear(rounded(x), weight, bias))
            settings = layer.stride, layer.padding, layer.dilation, layer.groups
            return rounded(F.conv2d(rounded(x), weight, bias, *settings))

        return forward
