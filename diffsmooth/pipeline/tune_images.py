"""On which training images `tune` judges: those that its classifier's training left."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diffsmooth.lit.data import ImageSet, Reading, load_images
from diffsmooth.lit.data.images import evenly_spaced
from diffsmooth.lit.data.names import DATASETS
from diffsmooth.lit.data.sources import has_split
from diffsmooth.models.checkpoints.image_cards import Told
from diffsmooth.models.checkpoints.training_images import TrainingImages, split_images
from diffsmooth.pipeline.tune_specification import TuneOptions
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError

UNKNOWN = "training images; unknown whether they trained the classifier"
EXTRA_UNKNOWN = "training images; unknown whether the classifier's extra training images hold them"
TRAINED = "training images that TRAINED the classifier"
LEFT_OUT = "training images that the classifier's training left out"
VALIDATION = "validation images; they may have chosen the classifier's checkpoint"
HELD_OUT = "validation images, which chose nothing"
NO_HELD_OUT = (
    "the checkpoint says that all {total:,} training images trained it: train with "
    "--data.validation_images or --data.left_out_images, name other images, or give "
    "--trained_images to judge on images that it has seen"
)


class TuneImages(NamedTuple):
    """The images of a sweep.

    Attributes:
        indices: places in the training split, ascending.
        kind: what they are to the classifier, in words.
        said: lines on how that is known.
        pool: number of images that they were taken from.
    """

    indices: list[int]
    kind: str
    said: tuple[str, ...]
    pool: int


def training_images(options: TuneOptions, reading: Reading) -> ImageSet:
    """The training split.

    Raises:
        UserError: there is none of its own: `certify` would certify the images of the choice.
    """
    there = options.dataset in DATASETS or Path(os.path.expanduser(options.dataset)).exists()
    if there and not has_split(options.dataset, "train"):
        raise UserError(
            f"{options.dataset} has no training images apart from those that certify.py takes: "
            "name fashion_mnist, cifar10 or imagenet, or a folder with train.npz and test.npz, or "
            "train/ and test/, in it"
        )
    images = load_images(options.dataset, options.data_root, "train", reading)
    if options.dataset not in DATASETS and has_split(options.dataset, "test"):
        test = load_images(options.dataset, options.data_root, "test", reading)
        if _same(test, images):
            raise UserError(f"{options.dataset}: its training images are its test images")
    return images


def _same(images: ImageSet, others: ImageSet) -> bool:
    # A folder's fingerprint is of names and sizes, and uncompressed files may share both.
    return images.fingerprint() == others.fingerprint() and all(
        images.content_digest(i) == others.content_digest(i) for i in range(len(images))
    )


def choose_images(options: TuneOptions, told: Told, images: ImageSet) -> TuneImages:
    """The images that a sweep is judged on.

    Where the classifier's checkpoint says which images trained it, and these are them: the ones
    that its training left out, or else the ones that it held out for validation.

    Raises:
        UserError: all of them trained it; or options that the record contradicts.
    """
    record, total = told.record, len(images)
    doubt = _doubt(told, images)
    if options.trained_images:
        if record and not doubt and record.trained < total and not _again(record):
            raise UserError("--trained_images: the checkpoint says that some images were held out")
        said = f"by --trained_images; {doubt or 'the checkpoint says so, too'}"
        what = f"classifier: {record.describe()}" if record and not doubt else ""
        return _of(range(total), options.images, total, TRAINED, said, what)
    if record is None or doubt:
        count, seed = options.validation_images or 2000, options.validation_seed or 0
        if count >= total:
            given = "" if options.validation_images else " (by default)"
            raise UserError(
                f"validation_images must be below the {total:,} training images, got "
                f"{count:,}{given}: {doubt}"
            )
        held_out = split_images(total, count, 0, seed).validation
        said = (
            f"they are new to the classifier if its training held out {count} images by seed "
            f"{seed} (data.validation_images, data.seed)"
        )
        name = "validation_images"
        return _of(held_out, options.images, count, UNKNOWN, doubt, said, name=name)
    return _recorded(options, record, images)


def _recorded(options: TuneOptions, record: TrainingImages, images: ImageSet) -> TuneImages:
    """Those that a record tells, which is of these very images."""
    split = record.split()
    assert split is not None  # or there was a doubt
    if _again(record):
        raise UserError(
            f"the checkpoint says that all {record.total:,} training images trained it, those held "
            "out among them: they were its training's data.extra, too; name other images, or give "
            "--trained_images to judge on images that it has seen"
        )
    given = {"validation_images": record.validation, "validation_seed": record.seed}
    for name, own in given.items():
        value = getattr(options, name)
        if value not in (None, own):
            raise UserError(f"{name} is {own} by the classifier's checkpoint, got {value}")
    said = [f"classifier: {record.describe()}"]
    if record.left_out:
        pool, kind, name = split.left_out, LEFT_OUT, "left-out images"
    elif record.validation:
        chose = record.chosen_by == "validation"
        pool, kind = split.validation, VALIDATION if chose else HELD_OUT
        name = "validation images"
        if chose:
            said.append(
                "these images may have chosen the checkpoint, which flatters all settings a little"
            )
    else:
        raise UserError(NO_HELD_OUT.format(total=record.total))
    if record.extra_total:
        kind = EXTRA_UNKNOWN
        said.append(f"unknown whether {word(record.extra)} holds the images of the sweep")
    if record.pretrained == "other":
        kind = UNKNOWN
        said.append(
            "unknown whether they trained the checkpoint that the classifier's training began with"
        )
    return _of(pool, options.images, len(pool), kind, *said, name=f"{name} of its training")


def _again(record: TrainingImages) -> bool:
    """Whether the images beyond the data set that trained the network are that set itself."""
    return record.extra_digest == record.digest


def _doubt(told: Told, images: ImageSet) -> str:
    """That a record does not say what these images are to the classifier; "" if it does."""
    problem = _of_others(told, images)
    return problem and f"unknown which images trained the classifier: {problem}"


def _of_others(told: Told, images: ImageSet) -> str:
    """Why a record does not say what these images are to a network; "" if it does."""
    record = told.record
    if record is None:
        return told.why
    # First, for a file may say that there were very many: their choice is not computed then.
    if record.total != len(images) or record.digest != images.fingerprint():
        return (
            f"its checkpoint tells of {record.total:,} other ones ({word(record.dataset)}, "
            f"{record.digest[:12]})"
        )
    if record.split() is None:
        return "the choice that its checkpoint tells of comes out otherwise here"
    return ""


def _of(
    pool: Sequence[int], wanted: int, total: int, kind: str, *said: str, name: str = "images"
) -> TuneImages:
    if wanted > total:
        raise UserError(f"images must be at most the {total} {name}, got {wanted}")
    indices = [pool[i] for i in evenly_spaced(len(pool), wanted)]
    return TuneImages(indices, kind, tuple(line for line in said if line), total)


def say_of_diffusion(told: Told, images: ImageSet, chosen: Sequence[int]) -> str:
    """What the images of the sweep are to the diffusion model, on one line."""
    record, problem = told.record, _of_others(told, images)
    if record is None or problem:
        return f"diffusion model: unknown whether these images trained it: {problem}"
    split = record.split()
    assert split is not None
    seen = len(set(chosen) & set(split.trained)) if not _again(record) else len(chosen)
    unknown = (record.extra_total and not _again(record)) or record.pretrained == "other"
    also = "; unknown of others that trained it, too" * bool(unknown)
    return f"diffusion model: {seen} of these {len(chosen)} images trained it{also}"
