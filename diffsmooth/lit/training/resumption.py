"""What a checkpoint keeps of its training beside the weights, and whether another may go on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.models.checkpoints.image_cards import Told
from diffsmooth.models.checkpoints.metadata import METHOD_KEY, SETTINGS_KEY
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages
from diffsmooth.models.checkpoints.weights import METADATA_KEY, CheckpointMetadata
from diffsmooth.stats.errors import UserError

# What trainings did before these were options; their checkpoints do not say it.
BEFORE: dict[str, dict[str, Any]] = {
    "ConsistencyTraining": {"epsilon": None},
    "MacerTraining": {"deferred_epochs": 0},
    "SmoothMixTraining": {"mix_step": 0},
}


def check_same_training(
    checkpoint: Mapping[str, Any], asked: Mapping[str, Any], path: Path | str | None
) -> None:
    """Raises UserError if a checkpoint is of another training than what is asked for."""
    if METADATA_KEY not in checkpoint or METHOD_KEY not in checkpoint:
        raise UserError(f"{path}: holds weights only, training cannot resume from it")
    stored = {
        "method": checkpoint[METHOD_KEY],
        **CheckpointMetadata(**checkpoint[METADATA_KEY])._asdict(),
        **checkpoint.get(SETTINGS_KEY, {}),  # of older versions, without: not compared
    }
    stored = BEFORE.get(checkpoint[METHOD_KEY], {}) | stored
    for name, value in asked.items():
        if stored.get(name, value) != value:
            raise UserError(
                f"{path}: was trained with {name} {stored[name]!r}, not {value!r}; to go on, "
                "leave the options as they were"
            )


def images_of(trainer: pl.Trainer, before: Told | None) -> TrainingImages | None:
    """Which images train the network and choose its checkpoint; None with others' loaders.

    Args:
        before: what the weights that it began with were trained on.
    """
    data = getattr(trainer, "datamodule", None)
    record = data.training_images if isinstance(data, ImageDataModule) else None
    if record is None:
        return None
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    monitors = [str(getattr(callback, "monitor", None)) for callback in callbacks]
    watched = any(monitor.startswith("val") for monitor in monitors)
    by = ("validation" if record.validation else "test") if watched else "nothing"
    same = before is not None and record.same_images(before.record)
    pretrained = "" if before is None else "same" if same else "other"
    return record._replace(chosen_by=by, pretrained=pretrained)


def begun_before(checkpoint: Mapping[str, Any], begun_with: Told | None) -> Told | None:
    """What trained the weights before they were saved stays so, whatever is said now."""
    record = None
    if IMAGES_KEY in checkpoint:
        record = TrainingImages.from_stored(checkpoint[IMAGES_KEY])
    if record is None:
        return Told(None, "the training was begun by an older version")
    if record.pretrained == "other":
        return Told(record)
    return begun_with if record.pretrained else None
