"""Grids of images that show what a network sees, or what it has learned."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchvision.utils import make_grid

from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models.smoothing.purifiers import MultiStepPurifier, OneShotPurifier

SAMPLES = 16  # images in a grid of samples
COLUMNS = 8


class LogPictures(pl.Callback):
    """Shows a training module's `pictures` of the first batch of each validation.

    They go to the loggers that take images as TensorBoard's does; to none in a sanity check.
    """

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        # Here and not at the epoch's end, when averaged weights are no longer in place.
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        writers: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
        writers = [writer for writer in writers if hasattr(writer, "add_image")]
        if not writers or not isinstance(pl_module, TrainingModule):
            return
        with trainer.precision_plugin.val_step_context():
            grids = pl_module.pictures(pl_module.batch_of(batch, batch_idx))
        for writer in writers:
            for tag, grid in grids.items():
                writer.add_image(tag, grid, trainer.global_step)


def noisy_grid(images: Tensor, noisy: Tensor) -> Tensor:
    """A grid (3, height, width) in [0, 1]: images (B, C, H, W) above noisy ones, at most 8."""
    rows = torch.cat([images[:COLUMNS], noisy[:COLUMNS].clamp(0, 1)])
    return make_grid(rows, nrow=len(rows) // 2, pad_value=1.0)


def denoised_grid(
    purifier: OneShotPurifier, images: Tensor, sigmas: tuple[float, ...], generator: torch.Generator
) -> Tensor:
    """A grid (3, height, width) in [0, 1]: the originals, then noisy and denoised at each sigma.

    Args:
        images: (B, C, H, W) in [0, 1]; one column each, at most 8.
        sigmas: noise levels, [0, 1] pixel units.
        generator: the noise's random stream, on the images' device.
    """
    images = images[:COLUMNS]
    rows = [images]
    for sigma in sigmas:
        noise = torch.randn(images.shape, device=images.device, generator=generator)
        noisy = images + sigma * noise
        rows += [noisy.clamp(0, 1), purifier(noisy, sigma)]
    return make_grid(torch.cat(rows), nrow=len(images), pad_value=1.0)


def samples_grid(
    purifier: MultiStepPurifier, image_shape: torch.Size, generator: torch.Generator
) -> Tensor:
    """A grid (3, height, width) in [0, 1] of images generated from noise.

    Args:
        purifier: its network must have been trained on the whole schedule.
        image_shape: (C, H, W).
        generator: the noise's random stream, on the network's device.
    """
    shape = (SAMPLES, *image_shape)

    def draw() -> Tensor:
        return torch.randn(shape, device=generator.device, generator=generator)

    draws = (draw() for _ in range(purifier.draws))
    return make_grid(purifier.generate(draw(), draws), nrow=COLUMNS, pad_value=1.0)
