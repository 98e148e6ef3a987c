"""Whether a training goes on with the images, and the epochs, that its checkpoint had."""

from pathlib import Path
from typing import Any

from diffsmooth.lit.data.images import DataError

# What trainings did before these were options; their checkpoints do not say it.
BEFORE = {
    "left_out_images": 0,
    "random_resized_crop": False,
    "resize": "bilinear",
    "drop_last": True,
}


def check_same_data(stored: dict[str, Any], now: dict[str, Any], path: Path | str | None) -> None:
    """Raises DataError if the checkpoint is of a training on other images, or other epochs."""
    if now["extra"] is not None and "extra" not in stored:
        raise DataError(
            f"{path}: was trained before data.extra came in batches of their own: an epoch was "
            "another, and the training cannot go on"
        )
    before = BEFORE | stored
    for name, value in now.items():
        was = before.get(name, value)
        if was == value or name == "batches":  # they may be others from an epoch's begin on
            continue
        if name == "images":
            raise DataError(
                f"{path}: was trained on other images than data.dataset and data.extra hold now"
            )
        how = "leave the options as they were"
        if name not in stored:
            how = f"give --data.{name} {str(was).lower()}, as it was then"
        raise DataError(
            f"{path}: was trained with data.{name} {was!r}, not {value!r}; to go on, {how}"
        )


def check_same_batches(stored: list[int] | None, now: list[int], path: Path | str | None) -> None:
    """Raises DataError if an epoch that was begun would go on in other batches.

    Args:
        stored: images a batch and number of devices of the checkpoint, None where it does not say.
        now: those of this training.
    """
    if stored is not None and stored != now:
        raise DataError(
            f"{path}: was saved in the middle of an epoch, with batches of {stored[0]} on "
            f"{stored[1]} device{'s' * (stored[1] != 1)}: from there it goes on with these alone, "
            f"got {now[0]} on {now[1]}"
        )
