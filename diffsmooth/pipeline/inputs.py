"""What a run reads first: its classifier's checkpoint, and images as that takes them."""

from typing import NamedTuple

from diffsmooth.lit.data import ImageSet, Reading
from diffsmooth.models.checkpoints.formats import UNET_KEY
from diffsmooth.models.checkpoints.weights import Checkpoint
from diffsmooth.pipeline.specification import ImageOptions

# Of networks that do not say how many channels they take.
FIRST_WEIGHTS = ("1.conv1.weight", "1.patch_embed.proj.weight", UNET_KEY)


class Inputs(NamedTuple):
    """The checkpoint of a classifier, and images that are read as it takes them."""

    checkpoint: Checkpoint
    images: ImageSet


def reading_for(checkpoint: Checkpoint | None, options: ImageOptions) -> Reading:
    """How a folder's files become images for a network: in its channels, with its classes."""
    channels = 3
    names: tuple[str, ...] = ()
    if checkpoint is not None:
        weights, shape = checkpoint.state_dict, checkpoint.metadata.image_shape
        first = [weights[key].shape[1] for key in FIRST_WEIGHTS if key in weights]
        channels = [*shape[:1], *first, 3][0]
        names = tuple(checkpoint.metadata.class_names)
    return Reading(options.image_size, options.exif, 1 if channels == 1 else 3, names)
