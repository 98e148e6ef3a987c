"""Gradients of a step that is not taken yet: a checkpoint within it holds them."""

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

GRADIENTS_KEY = "accumulated_gradients"  # in a checkpoint


def accumulated_gradients(module: nn.Module, trainer: pl.Trainer) -> dict[str, Tensor]:
    """The gradients by their parameters' names, the mean of all ranks'; empty between two steps.

    Every rank must ask at once.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    done: int = progress.current.processed  # type: ignore[attr-defined]
    begun = progress.current.ready
    is_last = progress.is_last_batch and done == begun
    if is_last or not done % trainer.accumulate_grad_batches:
        return {}
    gradients = {
        name: parameter.grad.detach().clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if trainer.world_size > 1:  # each rank's own, until the step's last batch
        for gradient in gradients.values():
            torch.distributed.all_reduce(gradient)
            gradient /= trainer.world_size
    return gradients


def put_back_gradients(module: nn.Module, gradients: dict[str, Tensor]) -> None:
    """Lets a training go on within a step."""
    for name, parameter in module.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
