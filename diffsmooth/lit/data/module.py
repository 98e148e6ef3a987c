"""The data module for training: any dataset, sharded and shuffled reproducibly."""

from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.classes import check_all_classes
from diffsmooth.lit.data.images import DataError, ImageSet, Sample
from diffsmooth.lit.data.loaders import WholeBatches, evaluation_rows, make_loader, most_batches
from diffsmooth.lit.data.on_device import ResidentLoader, make_resident, why_not_resident
from diffsmooth.lit.data.picture import ExifChoice
from diffsmooth.lit.data.purified import Purification, purify_images
from diffsmooth.lit.data.reading import Reading, ResizeKind
from diffsmooth.lit.data.resumption import check_same_batches, check_same_data
from diffsmooth.lit.data.sources import describe_dataset, has_split, load_images
from diffsmooth.lit.data.training_set import (
    TrainingOrder,
    TrainingSet,
    check_same_classes,
    check_size,
    checked_split,
    load_extra,
    record_images,
)
from diffsmooth.lit.ranges import at_least
from diffsmooth.lit.saying import say
from diffsmooth.models.checkpoints.training_images import TrainingImages
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.whole_file import file_sha256

MOST_SEED = 2**63  # of torch's generators, and a number of epochs
Loader = DataLoader[Sample] | ResidentLoader


class ImageDataModule(pl.LightningDataModule):
    """Training, validation and test images of one dataset.

    Without a trainer its loaders are those of one device.

    Args:
        dataset: fashion_mnist, cifar10, imagenet, an .npz file, or a folder with one a class; or
            PACKAGE.MODULE:FACTORY, see `DATASETS`.
        root: where a known dataset lies.
        batch_size: training images a batch on each device.
        workers: loader processes on each device; 0 loads in the training process.
        validation_images: training images held out for validation, chosen by `seed`; with 0
            validation runs on the test images.
        left_out_images: further training images that nothing of the training looks at, chosen by
            the same seed: `diffsmooth tune` takes them.
        seed: the seed of the held-out choice and of the shuffling.
        extra: more training images, with labels that another network may have given them: an .npz
            file or a folder. They come in batches of their own, one to each batch of the others:
            see `TrainingOrder`. Source: self-training, Carmon et al. 2019; Salman et al. 2019.
        extra_weight: what their batches' losses count, >= 0.
        purified: train, validate and test on purified draws of the images.
        image_size: the size of a folder's images, where the files have several; see `Reading`. It
            is that of `extra`, too.
        exif: apply or ignore the orientation that a folder's files carry.
        random_resized_crop: train on crops of random scale and shape, as published for ImageNet:
            see `FolderImages.randomly_cropped`. For images in files. Validation and test have none.
        resize: how images in files are resized: bilinear, or box_bicubic as the images of OpenAI's
            diffusion models; see `load_imagenet` for the size of ImageNet's.
        drop_last: leave out an epoch's last batch where it is smaller than the others.
        on_device: keep the images on the device as bytes, and gather batches there: the same ones,
            without loaders' processes. By default on a GPU, where the images are arrays or purified
            draws that fit in an eighth of its memory; a line says where they do not.

    Raises:
        UserError: batch_size < 1, another number < 0; extra_weight without extra; image_size < 1,
            another exif or resize; purified, random_resized_crop or box_bicubic with each other.
    """

    def __init__(
        self,
        dataset: str = "fashion_mnist",
        root: str = "data",
        batch_size: int = 256,
        workers: int = 0,
        validation_images: int = 2000,
        seed: int = 0,
        extra: str | None = None,
        extra_weight: float = 1.0,
        purified: Purification | None = None,
        image_size: int | None = None,
        exif: ExifChoice | None = None,
        random_resized_crop: bool = False,
        resize: ResizeKind = "bilinear",
        drop_last: bool = False,
        left_out_images: int = 0,
        on_device: bool | None = None,
    ) -> None:
        super().__init__()
        self.reading = Reading(image_size, exif, resize=resize)
        given = {
            "random_resized_crop": random_resized_crop,
            "resize box_bicubic": resize == "box_bicubic",
            "purified": purified is not None,
        }
        together = [name for name, asked in given.items() if asked]
        if len(together) > 1:
            raise DataError(f"{together[0]} and {together[1]} do not go together")
        at_least(
            0,
            extra_weight=extra_weight,
            workers=workers,
            validation_images=validation_images,
            left_out_images=left_out_images,
            seed=seed,
        )
        at_least(1, batch_size=batch_size)
        if seed >= MOST_SEED:
            raise DataError(f"seed must be below {MOST_SEED}, got {seed}")
        if extra is None and extra_weight != 1:
            raise DataError(f"extra_weight {extra_weight} is of extra images: give extra, too")
        self.dataset = dataset
        self.root = Path(root)
        self.batch_size = batch_size
        self.workers = workers
        self.validation_images = validation_images
        self.left_out_images = left_out_images
        self.seed = seed
        self.training_images: TrainingImages | None = None  # what a checkpoint says of them
        self._told = False  # why images do not stay on the device
        self._batches_before: list[int] | None = None  # of the checkpoint that goes on, if it says
        self.extra = extra
        self.extra_weight = extra_weight
        self.purified = purified
        self.random_resized_crop = random_resized_crop
        self.drop_last = drop_last
        self.on_device = on_device

    @property
    def info(self) -> DatasetInfo:
        """The dataset's facts."""
        return describe_dataset(self.dataset, self.reading, self.root)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must share: the images held out before must not be trained on."""
        record = self.training_images
        return {
            "validation_images": self.validation_images,
            "left_out_images": self.left_out_images,
            "seed": self.seed,
            "extra": None if self.extra is None else "in batches of their own",
            "extra_weight": self.extra_weight,
            "purified": None if self.purified is None else self.purified.words(),
            "purified.diffusion": self._purifying_model,
            "image_size": self.reading.image_size,
            "exif": self.reading.exif,
            "random_resized_crop": self.random_resized_crop,
            "resize": self.reading.resize,
            "drop_last": self.drop_last,
            "images": [] if record is None else [record.digest, record.extra_digest],
            "batches": self._batches(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises DataError if the checkpoint is of a training on other images, or other epochs."""
        self._batches_before = state_dict.get("batches")
        path = None if self.trainer is None else self.trainer.ckpt_path
        check_same_data(state_dict, self.state_dict(), path)

    def prepare_data(self) -> None:
        """On one process a host: downloads what is missing before all of them look for it."""
        load_images(self.dataset, self.root, "train", self.reading)

    def setup(self, stage: str | None = None) -> None:
        """Loads what a stage (fit, validate or test) is of; None: all that there is."""
        if stage in (None, "fit", "validate"):
            images = load_images(self.dataset, self.root, "train", self.reading)
            if self.trainer is not None:
                say(images.describe())
            self._labels = images.labels
            train = self._views(images, "train")
            split = checked_split(
                len(train), self.validation_images, self.left_out_images, self.seed
            )
            self.validation: Dataset[Sample] = Subset(train, split.validation)
            limit = 1 if self.trainer is None else self.trainer.limit_val_batches
            if not self.validation_images and limit != 0:
                self.validation = self._test_images(train.info)
        if stage in (None, "fit"):
            record, extra = record_images(images, split, self.seed), None
            if self.extra is not None:
                images, record = load_extra(self.extra, train.info, self.reading, record)
                extra = self._views(images, "extra")
            self.training_images = record
            seed = self.seed if self.random_resized_crop else None
            self.train = TrainingSet(train, split.trained, extra, self.extra_weight, seed)
        if stage == "test" or (stage is None and has_split(self.dataset, "test")):
            self.test: ImageSet = self._test_images(self.info)

    def check_classes(self) -> None:
        """Raises DataError for classes without a training image, see `check_all_classes`."""
        check_all_classes(self._labels, self.info.class_names, self.dataset)

    def _test_images(self, info: DatasetInfo) -> ImageSet:
        """The test images, of the training images' size and classes."""
        if not has_split(self.dataset, "test"):
            raise DataError(f"{self.dataset}: has no test images of its own (test.npz or test/)")
        images = load_images(self.dataset, self.root, "test", self.reading)
        check_size(images, info, f"{self.dataset}'s test images")
        check_same_classes(images, info, f"{self.dataset}'s test images")
        return self._views(images, "test")

    def _views(self, images: ImageSet, split: str) -> ImageSet:
        """The images, or their purified draws."""
        if self.purified is None:
            return images
        return purify_images(images, split, self.purified, self.trainer)

    @cached_property
    def _purifying_model(self) -> str | None:
        return None if self.purified is None else file_sha256(self.purified.diffusion)[:16]

    @property
    def _ranks(self) -> tuple[int, int]:
        """How many devices there are, and which is this."""
        trainer = self.trainer
        return (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)

    def train_dataloader(self) -> Loader:
        # Our own sampler on one device too: its order depends on (seed, epoch) alone, so that a
        # resumed run sees the order that an unbroken one would have seen.
        order = TrainingOrder(
            self.train, self.batch_size, self.drop_last, self.seed, *self._ranks, self._taken
        )
        if not len(order):
            raise DataError(
                f"{self.dataset}: {order.num_samples} training images a device, too few for the "
                f"batch of {self.batch_size}"
            )
        return self._loader(self.train, self.batch_size, order)

    def _batches(self) -> list[int]:
        """What an epoch's batches depend on beside its order: their size, and the devices."""
        return [self.batch_size, self._ranks[0]]

    def _taken(self) -> int:
        """Batches of this epoch before the next, on each device.

        Raises:
            DataError: they were of another size, or shared by another number of devices.
        """
        if self.trainer is None:
            return 0
        taken: int = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if taken:
            check_same_batches(self._batches_before, self._batches(), self.trainer.ckpt_path)
        return taken

    def val_dataloader(self) -> Loader:
        return self._evaluation_loader(self.validation, "limit_val_batches")

    def test_dataloader(self) -> Loader:
        return self._evaluation_loader(self.test, "limit_test_batches")

    def _evaluation_loader(self, images: Dataset[Sample], option: str) -> Loader:
        world, rank = self._ranks
        most = most_batches(option, getattr(self.trainer, option, None), world)
        rows = evaluation_rows(images)
        return self._loader(images, rows, WholeBatches(images, rows, most, world, rank))

    def _loader(
        self, images: Dataset[Sample], rows: int, sampler: DistributedSampler[Sample]
    ) -> Loader:
        trainer = self.trainer
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        if self.on_device or (self.on_device is None and device.type == "cuda"):
            reason = why_not_resident(images, device)
            if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
                reason = "overfit_batches deals them in an order of its own"
            if not reason:
                return ResidentLoader(make_resident(images, device), rows, sampler)
            if self.on_device:
                raise DataError(f"on_device: not possible here: {reason}")
            if not self._told:
                say(f"images are loaded, they do not stay on the GPU: {reason}")
            self._told = True
        return make_loader(images, rows, sampler, self.workers, pinned=device.type == "cuda")
