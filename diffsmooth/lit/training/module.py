"""What all training modules share: the optimiser, the random streams, what a checkpoint says."""

from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.nn import Parameter

from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.randomness import VALIDATION, step_generator
from diffsmooth.models.weights import METADATA_KEY, CheckpointMetadata


class TrainingModule(pl.LightningModule, ABC):
    """Base of the training modules.

    Args:
        optimizer: makes the optimiser from the parameters.
        learning_rate: the schedule of its learning rate.
        seed: of the training noise and the augmentation.
    """

    def __init__(
        self, optimizer: OptimizerCallable, learning_rate: LearningRate, seed: int
    ) -> None:
        super().__init__()
        self._make_optimizer = optimizer
        self._learning_rate = learning_rate
        self._seed = seed

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network that is trained; its state dict is what a checkpoint is for."""

    @abstractmethod
    def metadata(self) -> CheckpointMetadata:
        """What the checkpoint says of its network, so that certify.py need not ask."""

    def generator(self, batch_idx: int) -> torch.Generator:
        """The random stream of this batch on this rank; the same each epoch in validation."""
        if self.trainer.training:
            return step_generator(
                self.device, self._seed, self.global_rank, self.trainer.fit_loop.total_batch_idx
            )
        return step_generator(
            self.device, self._seed, self.global_rank, batch_idx, purpose=VALIDATION
        )

    def trained_parameters(self) -> list[Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(self.trained_parameters())
        total = int(self.trainer.estimated_stepping_batches)
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        scheduler = self._learning_rate.scheduler(optimizer, total, steps_per_epoch=batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[METADATA_KEY] = self.metadata()._asdict()
