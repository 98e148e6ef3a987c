"""What a run reads first: its classifier's checkpoint, and images as that takes them."""

from typing import NamedTuple

from diffsmooth.lit.data import ImageSet, Reading
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.pipeline.specification import ImageOptions


class Inputs(NamedTuple):
    """The checkpoint of a classifier, and images that are read as it takes them."""

    checkpoint: Checkpoint
    images: ImageSet


def reading_for(checkpoint: Checkpoint | None, options: ImageOptions) -> Reading:
    """How a folder's files become images for a network: in its channels, with its classes."""
    channels = 3
    names: tuple[str, ...] = ()
    if checkpoint is not None:
        # Where the file does not say, those of its convolutions that are no depthwise ones.
        weights = checkpoint.state_dict.items()
        taken = {w.shape[1] for key, w in weights if key.endswith("weight") and w.ndim == 4}
        is_grey = 1 in taken and 3 not in taken
        channels = [*checkpoint.metadata.image_shape[:1], 1 if is_grey else 3][0]
        names = tuple(checkpoint.metadata.class_names)
    return Reading(options.image_size, options.exif, 1 if channels == 1 else 3, names)
