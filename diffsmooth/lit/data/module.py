"""The data module for training: any dataset, sharded and shuffled reproducibly."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.images import DataError, ImageSet, Sample
from diffsmooth.lit.data.sources import has_test_split, load_images


class ImageDataModule(pl.LightningDataModule):
    """Training, validation and test images of one dataset.

    Args:
        dataset: fashion_mnist, cifar10, imagenet, an .npz file, or a folder with one a class.
        root: where a known dataset lies.
        batch_size: images a batch on each device.
        workers: loader processes on each device; 0 loads in the training process.
        validation_images: training images held out for validation, chosen by `seed`; with 0
            validation runs on the test images.
        seed: of the held-out choice and of the shuffling.

    Raises:
        ValueError: batch_size < 1, workers < 0, validation_images < 0.
    """

    def __init__(
        self,
        dataset: str = "fashion_mnist",
        root: str = "data",
        batch_size: int = 256,
        workers: int = 0,
        validation_images: int = 2000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        lowest = {"batch_size": 1, "workers": 0, "validation_images": 0}
        for name, value in (
            ("batch_size", batch_size),
            ("workers", workers),
            ("validation_images", validation_images),
        ):
            if value < lowest[name]:
                raise ValueError(f"{name} must be at least {lowest[name]}, got {value}")
        self.dataset = dataset
        self.root = Path(root)
        self.batch_size = batch_size
        self.workers = workers
        self.validation_images = validation_images
        self.seed = seed

    def prepare_data(self) -> None:
        """On one process a host: downloads what is missing before all of them look for it."""
        load_images(self.dataset, self.root, "train")

    def setup(self, stage: str) -> None:
        if stage in ("fit", "validate"):
            train = load_images(self.dataset, self.root, "train")
            held_out, rest = hold_out(len(train), self.validation_images, self.seed)
            self.train: Dataset[Sample] = Subset(train, rest)
            self.validation: Dataset[Sample] = (
                Subset(train, held_out) if self.validation_images else self._test_images()
            )
        if stage == "test":
            self.test: ImageSet = self._test_images()

    def _test_images(self) -> ImageSet:
        if not has_test_split(self.dataset):
            raise DataError(f"{self.dataset}: has no test images of its own (test.npz or test/)")
        return load_images(self.dataset, self.root, "test")

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.validation, shuffle=False)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.test, shuffle=False)

    def _loader(self, images: Dataset[Sample], shuffle: bool) -> DataLoader[Sample]:
        trainer = self.trainer
        assert trainer is not None
        # Our own sampler on one device too: its order depends on (seed, epoch) alone, so that a
        # resumed run sees the order that an unbroken one would have seen.
        sampler: DistributedSampler[Sample] = DistributedSampler(
            images,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            shuffle=shuffle,
            seed=self.seed,
        )
        return DataLoader(
            images,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            drop_last=shuffle,
        )


def hold_out(total: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Splits indices 0 .. total - 1 into `count` held-out ones and the rest, both sorted.

    Raises:
        ValueError: count >= total.
    """
    if count >= total:
        raise DataError(f"validation_images must be below the {total} training images")
    held_out = np.sort(np.random.default_rng(seed).permutation(total)[:count])
    rest = np.setdiff1d(np.arange(total), held_out)
    return held_out.tolist(), rest.tolist()
