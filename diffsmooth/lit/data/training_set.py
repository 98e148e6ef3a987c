"""What is trained on: which image in which epoch, in which order, and what a checkpoint says."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Subset
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.folder import FolderImages
from diffsmooth.lit.data.images import DataError, ImageSet, Sample
from diffsmooth.lit.data.reading import Reading, by
from diffsmooth.lit.data.sources import DATASETS, load_images
from diffsmooth.models.checkpoints.training_images import Split, TrainingImages, split_images
from diffsmooth.models.classifiers.dataset_info import DatasetInfo, misplaced
from diffsmooth.shown_text import LONGEST_WORD, quoted
from diffsmooth.stats.printed import counted


class Address(NamedTuple):
    """What a loader asks for: an image as it is seen in an epoch.

    So the epoch comes to each loader's process with every index, however long the process lives.
    """

    epoch: int
    image: int


class Part(NamedTuple):
    """Some images of a data set, and what their losses count."""

    images: ImageSet
    indices: Sequence[int]
    weight: float


@dataclass(eq=False)
class TrainingSet(Dataset[Sample]):
    """Labelled images, and perhaps pseudo-labelled ones behind them.

    Attributes:
        images: the labelled data set.
        indices: which of its images are trained on.
        extra: the pseudo-labelled ones.
        extra_weight: what their losses count.
        crop_seed: images are cropped at random scales, each differently in each epoch; None: they
            are not.

    Raises:
        DataError: images that do not lie in files are to be cropped so.
    """

    images: ImageSet
    indices: list[int]
    extra: ImageSet | None = None
    extra_weight: float = 1.0
    crop_seed: int | None = None

    def __post_init__(self) -> None:
        for given in () if self.crop_seed is None else (self.images, self.extra):
            if given is not None and not isinstance(given, FolderImages):
                name = given.info.name
                raise DataError(f"random_resized_crop is for images in files, {name} is arrays")

    def __len__(self) -> int:
        return len(self.indices) + (0 if self.extra is None else len(self.extra))

    def __getitem__(self, address: Address | int) -> Sample:
        """The sample; at a bare index, for which Lightning's overfit_batches asks, epoch 0's."""
        epoch, index = address if isinstance(address, tuple) else (0, address)
        beyond = index - len(self.indices)
        if beyond < 0:
            return self._read(self.images, self.indices[index], epoch, 0)
        assert self.extra is not None
        sample = self._read(self.extra, beyond, epoch, 1)
        return sample._replace(weight=self.extra_weight)

    def parts(self) -> list[Part]:
        """What it consists of, in its order."""
        parts = [Part(self.images, self.indices, 1.0)]
        if self.extra is not None:
            parts.append(Part(self.extra, range(len(self.extra)), self.extra_weight))
        return parts

    def _read(self, images: ImageSet, index: int, epoch: int, part: int) -> Sample:
        if self.crop_seed is None:
            return images[index]
        assert isinstance(images, FolderImages)
        seeds = np.random.SeedSequence((self.crop_seed, epoch, index, part))
        (word,) = seeds.generate_state(1, np.uint64)
        return images.randomly_cropped(index, int(word >> np.uint64(1)))


class TrainingOrder(DistributedSampler[Sample]):
    """Addresses of the images that a rank trains on, shuffled anew by (seed, epoch) alone.

    An epoch goes once through the labelled images, the last batch being smaller where they do not
    go round. Each rank has as many: some images are dealt twice for that.

    With extra images as many batches of these, all whole, are mixed among the labelled ones, in an
    order that all ranks share: as in Hadisalman/smoothing-adversarial at cc80077, code/datasets.py
    (MultiDatasetsDataLoader). Where the extra images do not suffice they come again in another
    order (there, the epoch breaks off); where they are too many, each epoch takes others. A smaller
    labelled batch is the epoch's last (there, it is anywhere).

    A last batch of one image is left out unless all batches are of one: batch norm has nothing to
    normalise it by, and raises where feature maps are of one pixel.

    Args:
        rows: images a batch, the loader's batch size.
        drop_last: whether a smaller last batch is left out.
        seed: the order's seed.
        num_replicas, rank: how many ranks there are, and which is this.
        taken: batches of the epoch that the training has had before, when it goes on from the
            middle of it: they are not shown again.
    """

    def __init__(
        self,
        images: TrainingSet,
        rows: int,
        drop_last: bool,
        seed: int,
        num_replicas: int,
        rank: int,
        taken: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(Subset(images.images, images.indices), num_replicas, rank, seed=seed)
        self._extra: DistributedSampler[Sample] | None = None
        if images.extra is not None:
            self._extra = DistributedSampler(images.extra, num_replicas, rank, seed=seed)
        self._rows = rows
        self._taken = taken
        over = self.num_samples % rows
        self._count = self.num_samples - (over if drop_last or over == 1 else 0)

    def __len__(self) -> int:
        return self._count + (0 if self._extra is None else self._extra_count())

    def __iter__(self) -> Iterator[Address]:  # type: ignore[override]  # not of bare indices
        shuffled: Iterator[int] = super().__iter__()  # type: ignore[assignment]  # not of samples
        labelled = islice(shuffled, self._count)
        rest = islice(self._mixed(labelled), self._taken() * self._rows, None)
        return map(Address, repeat(self.epoch), rest)

    def _mixed(self, labelled: Iterator[int]) -> Iterator[int]:
        """The labelled indices, and between them batches of extra ones."""
        if self._extra is None:
            return labelled
        whole, extra = self._count // self._rows, self._extra_count() // self._rows
        turns = np.random.default_rng((self.seed, self.epoch)).permutation(whole + extra) < whole
        others = self._extra_indices(self._extra)
        batches = (islice(labelled if turn else others, self._rows) for turn in turns)
        return chain(chain.from_iterable(batches), labelled)  # the rest is the smaller batch

    def _extra_count(self) -> int:
        return math.ceil(self._count / self._rows) * self._rows

    def _extra_indices(self, extra: DistributedSampler[Sample]) -> Iterator[int]:
        passes = math.ceil(self._extra_count() / len(extra))
        for number in range(passes):
            extra.set_epoch(self.epoch * passes + number)
            for index in extra:
                yield len(self.dataset) + index  # type: ignore[arg-type, operator]  # no sample


def checked_split(total: int, validation: int, left_out: int, seed: int) -> Split:
    """See `split_images`.

    Raises:
        DataError: nothing is left to train on.
    """
    if validation >= total:
        raise DataError(
            f"validation_images must be below the {total} training images, got {validation}: "
            "--data.validation_images, of a training, says how many are held out"
        )
    if validation + left_out >= total:
        raise DataError(
            f"validation_images and left_out_images together must be below the {total} training "
            f"images, got {validation} and {left_out}"
        )
    return split_images(total, validation, left_out, seed)


def record_images(images: ImageSet, split: Split, seed: int) -> TrainingImages:
    """What a checkpoint says of the images that were split so."""
    return TrainingImages(
        dataset=images.info.name[:LONGEST_WORD],
        digest=images.fingerprint(),
        total=len(images),
        validation=len(split.validation),
        left_out=len(split.left_out),
        seed=seed,
        choice=split.choice,
        chosen_by="nothing",  # the training's module knows what is watched
    )


def load_extra(
    extra: str, info: DatasetInfo, reading: Reading, record: TrainingImages
) -> tuple[ImageSet, TrainingImages]:
    """The extra images, of the training images' size and classes; and the record with them.

    Args:
        extra: an .npz file or a folder.
        info, reading, record: the training images' facts, how they were read, what was held out.

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
    return images, record._replace(
        extra=images.info.name[:LONGEST_WORD],
        extra_digest=images.fingerprint(),
        extra_total=len(images),
    )


def check_size(images: ImageSet, info: DatasetInfo, what: str) -> None:
    """Raises DataError for images of another size than the training images."""
    given, wanted = images.info.image_shape, info.image_shape
    if given != wanted:
        raise DataError(
            f"{what}: {by(given)}, the training images are {by(wanted)}"
            + (": give data.image_size for folders" if given[0] == wanted[0] else "")
        )


def check_same_classes(images: ImageSet, info: DatasetInfo, what: str) -> None:
    """Raises DataError for images of other classes than the training images', or in other order."""
    largest, classes = int(images.labels.max(initial=-1)), info.num_classes
    if largest >= classes:
        raise DataError(
            f"{what}: label {largest}, but the training images have {counted(classes, 'class')}"
        )
    label = misplaced(images.info.class_names, info.class_names)
    if label is not None:
        names = images.info.class_names[label], info.class_names[label]
        raise DataError(
            f"{what}: label {label} is {quoted(names[0])}, in the training images "
            f"{quoted(names[1])}: the classes are in another order"
        )
