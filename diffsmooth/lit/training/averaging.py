"""The average of a training's weights, in a few operations for all of them together."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diffsmooth.lit.ranges import at_least


class Average(AveragedModel):
    """A module's exponential moving average: of its parameters; buffers are those of the module.

    The arithmetic is that of torch's `get_ema_avg_fn`, to the bit.

    Args:
        module: what is averaged; this holds a copy of it.
        decay: what the average keeps of itself at an update.
    """

    n_averaged: Tensor

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module, use_buffers=False)
        self.decay = decay
        self._begun = False  # as n_averaged says, which to ask may mean to wait for the device

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        averages: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(model.parameters())
        self._begun = self._begun or bool(self.n_averaged > 0)
        if self._begun:
            shares = torch._foreach_mul(current, 1 - self.decay)
            torch._foreach_mul_(averages, self.decay)
            torch._foreach_add_(averages, list(shares))
        else:
            torch._foreach_copy_(averages, current)
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(model.buffers()))
        self._begun = True
        self.n_averaged += 1


def save_average(
    averaging: WeightAveraging,
    trainer: pl.Trainer,
    module: pl.LightningModule,
    checkpoint: dict[str, Any],
) -> None:
    """Puts the average into a checkpoint of weights alone: it is what was validated."""
    averaging.on_save_checkpoint(trainer, module, checkpoint)
    for part in ("current_model_state", "averaging_state"):  # to go on from
        checkpoint.pop(part, None)


class AverageWeights(WeightAveraging):
    """Lightning's `EMAWeightAveraging` without buffers, made for GPUs; same average, same files.

    Lightning's makes its copy before the module is on the device, so that each step moves all
    weights to the host, one by one, and waits. This one lies where the module lies.

    Args:
        decay: what the average keeps of itself at a step, in [0, 1].
        every_n_steps: it is updated at the first step and each n-th from there, keeping decay^n.

    Raises:
        ValueError: out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        super().__init__(use_buffers=False)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        at_least(1, every_n_steps=every_n_steps)
        self.decay, self.every_n_steps = decay, every_n_steps

    @property
    def state_key(self) -> str:
        return "EMAWeightAveraging"  # trainings that began with Lightning's go on with this one

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx % self.every_n_steps == 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = Average(pl_module, self.decay**self.every_n_steps)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if isinstance(self._average_model, Average):
            self._average_model._begun = False
