"""Training images beyond the data set, with labels that another network may have given them."""

from dataclasses import replace

from diffsmooth.lit.data.images import DataError, ImageSet
from diffsmooth.lit.data.reading import Reading, by
from diffsmooth.lit.data.sources import DATASETS, load_images
from diffsmooth.models.checkpoints.training_images import TrainingImages
from diffsmooth.models.classifiers.dataset_info import DatasetInfo


def load_extra(extra: str, info: DatasetInfo, reading: Reading, record: TrainingImages) -> ImageSet:
    """The extra images, of the training images' size and classes.

    Args:
        extra: an .npz file or a folder.
        info: the training images' facts.
        reading: how they were read.
        record: what was held out of them.

    Raises:
        DataError: see `load_images`; a name; another size or other classes; the training images.
    """
    if extra in DATASETS:
        raise DataError(f"extra must be an .npz file or a folder, got {extra!r}")
    reading = replace(reading, channels=info.image_shape[0], class_names=info.class_names)
    images = load_images(extra, split="train", reading=reading)
    check_size(images, info, extra)
    names = images.info.class_names
    if not set(names) <= set(map(str, range(len(names)))) and names != info.class_names:
        raise DataError(f"{extra}: its classes are not those of {info.name}")
    if images.labels.max() >= info.num_classes:
        raise DataError(
            f"{extra}: label {images.labels.max()} is beyond the {info.num_classes} "
            f"classes of {info.name}"
        )
    if images.fingerprint() == record.digest and (record.validation or record.left_out):
        raise DataError(
            f"{extra}: these are the training images, with those that validation_images "
            "and left_out_images keep from the training"
        )
    return images


def check_size(images: ImageSet, info: DatasetInfo, what: str) -> None:
    """Raises DataError for images of another size than the training images."""
    given, wanted = images.info.image_shape, info.image_shape
    if given != wanted:
        raise DataError(
            f"{what}: {by(given)}, the training images are {by(wanted)}"
            + (": give data.image_size for folders" if given[0] == wanted[0] else "")
        )
