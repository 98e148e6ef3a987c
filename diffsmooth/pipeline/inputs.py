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
        # Where the file does not say, those of its first convolution.
        weights = checkpoint.state_dict.items()
        kernels = (value for key, value in weights if key.endswith("weight") and value.ndim == 4)
        told = checkpoint.metadata.image_shape[:1]
        channels = [*told, *(kernel.shape[1] for kernel in kernels), 3][0]
        names = tuple(checkpoint.metadata.class_names)
    return Reading(options.image_size, options.exif, 1 if channels == 1 else 3, names)
