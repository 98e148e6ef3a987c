"""Ends a training whose loss or weights are no longer finite, before it saves them."""

import math
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch.nn.utils import get_total_norm


class TrainingDiverged(Exception):
    """The loss or the weights are no longer finite."""


class StopDiverged(pl.Callback):
    """Looks when the trainer logs, before each validation and, of our modules, each checkpoint.

    Raises:
        TrainingDiverged: on all ranks, if the loss or a weight of one is not finite.
    """

    def __init__(self) -> None:
        self._sum_of_losses: Tensor | float = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum_of_losses = 0.0

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        # Once not finite, the sum stays so: it need not be looked at, which waits for the device,
        # at every step.
        self._sum_of_losses = self._sum_of_losses + loss.detach()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # 0: never
        if every and (batch_idx + 1) % every == 0:
            self.look(trainer, pl_module)

    def look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the training if it has diverged; all ranks must call it."""
        trained = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        finite = math.isfinite(self._sum_of_losses) and math.isfinite(get_total_norm(trained))
        if not trainer.strategy.reduce_boolean_decision(finite):
            raise TrainingDiverged(
                f"the training has diverged by step {trainer.global_step}: the loss or the weights "
                "are no longer finite. Checkpoints saved before are good; try a lower learning "
                "rate or --trainer.gradient_clip_val 1"
            )

    on_validation_start = look
    on_train_epoch_end = look
