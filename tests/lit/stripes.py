"""A data set that a tiny network learns in seconds, and a trainer for it."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np

from diffsmooth.lit.data import ImageDataModule


def write_stripes(folder: Path) -> Path:
    """Four classes of stripes, under fashion_mnist's name."""
    folder.mkdir()
    for split, n in (("train", 160), ("test", 40)):
        labels = np.arange(n) % 4
        images = np.zeros((n, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[7 * label : 7 * label + 7] = 255
        np.savez(folder / f"{split}.npz", images=images, labels=labels)
    return folder


def make_data(root: Path) -> ImageDataModule:
    return ImageDataModule("fashion_mnist", str(root), batch_size=32, validation_images=32)


def make_trainer(folder: Path, epochs: int, logger: Any = False, **kwargs: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **kwargs,
    )


class StopAfter(pl.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            trainer.should_stop = True
