"""What is known of the images that trained a network: in its checkpoint, or on a card beside it.

A card, `FILE.images.json` beside FILE, is for files that were written before checkpoints told
it: to write it into them would change their digest, by which runs know their networks. It names the
digest of its file, so that it is not taken for another's.
"""

import json
from pathlib import Path
from typing import NamedTuple

from diffsmooth.models.checkpoints.training_images import TrainingImages
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import file_sha256

MOST_BYTES = 10_000


class Told(NamedTuple):
    """What is known of a network's training images.

    Attributes:
        record: None where nothing is.
        why: then: why not, in words.
    """

    record: TrainingImages | None
    why: str = ""

    def __str__(self) -> str:
        return f"unknown: {self.why}" if self.record is None else self.record.describe()


def card_path(path: Path) -> Path:
    """Where a checkpoint's card lies."""
    return path.with_name(f"{path.name}.images.json")


def training_images_of(checkpoint: Checkpoint) -> Told:
    """What a checkpoint, or else its card, says of the images of its training.

    Raises:
        UserError: a card that can be of no training.
    """
    if checkpoint.images is not None:
        return Told(checkpoint.images)
    card = card_path(checkpoint.path)
    if not card.is_file():
        return Told(None, "the checkpoint does not say which images trained it")
    try:
        with open(card, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"more than {MOST_BYTES:,} bytes")
        said = json.loads(content.decode())
        sha256 = said.pop("sha256", "") if isinstance(said, dict) else ""
        record = TrainingImages.from_stored(said)
    except (OSError, ValueError, RecursionError) as error:  # UserError among them
        raise UserError(f"{card}: no card of a training's images ({error})") from error
    if file_sha256(checkpoint.path) != sha256:
        return Told(None, f"{card.name} beside it is the card of another file")
    return Told(record, "" if record else f"{card.name} is of a later version")
