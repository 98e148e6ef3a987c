"""Data sets of another package's, as package.module:factory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffsmooth.lit.data import ImageDataModule, load_images
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.sources import (
    DATASETS,
    describe_dataset,
    has_split,
    is_folder,
)
from diffsmooth.models.classifiers.dataset_info import CIFAR10, get_dataset_info
from diffsmooth.stats.errors import UserError

CODE = """
import numpy as np
from diffsmooth.lit.data import load_images

def pets(root, split):
    rng = np.random.default_rng(len(split))
    labels = np.arange(len(str(root))) % 3
    return rng.integers(0, 256, (len(labels), 8, 8, 3), np.uint8), labels

def ready(root, split):
    return load_images("fashion_mnist_sample")

def broken(root, split):
    return np.zeros(3)
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_factory_makes_the_images_from_the_root_and_the_split() -> None:
    images = load_images("theirs:pets", "12345", "train")
    assert (len(images), images.info.name) == (5, "theirs:pets")
    assert images.info.image_shape == (3, 8, 8)
    assert images.info.class_names == ("0", "1", "2")
    pixels = np.random.default_rng(5).integers(0, 256, (5, 8, 8, 3), np.uint8)
    expected = torch.from_numpy(pixels[4].transpose(2, 0, 1)).float() / 255
    assert torch.equal(images[4].image, expected)
    assert images[4].label == 1
    assert load_images("theirs:ready").info.name == "fashion_mnist_sample"
    assert has_split("theirs:pets", "train")
    assert has_split("theirs:pets", "test")
    assert not is_folder("theirs:pets")


def test_a_factory_feeds_a_training() -> None:
    data = ImageDataModule("theirs:pets", "1" * 20, batch_size=4, validation_images=5)
    assert data.info.num_classes == 3
    data.setup()
    assert sum(len(batch.image) for batch in data.train_dataloader()) == 15
    assert len(data.test) == 20


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("theirs:broken", r"theirs:broken: must make an ImageSet, or \(images, labels\)"),
        ("theirs:nothing", "theirs has no nothing"),
        ("nowhere:pets", "there is no module nowhere"),
        ("minst", "known are fashion_mnist, fashion_mnist_sample, cifar10, imagenet or PACKAGE"),
    ],
)
def test_what_makes_no_images_is_named(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_images(word)


def test_an_existing_path_is_no_factory(tmp_path: Path) -> None:
    (tmp_path / "a:b.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"a:b\.npz"):
        load_images(str(tmp_path / "a:b.npz"))


def test_the_registry_knows_the_facts_without_files() -> None:
    assert list(DATASETS) == ["fashion_mnist", "fashion_mnist_sample", "cifar10", "imagenet"]
    assert describe_dataset("cifar10") is CIFAR10
    assert describe_dataset("imagenet") == get_dataset_info("imagenet")
    assert describe_dataset("fashion_mnist_sample") == load_images("fashion_mnist_sample").info
    assert describe_dataset(CIFAR10._asdict()) == CIFAR10
