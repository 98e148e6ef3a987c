import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import write_stripes
from torch.utils.data import DataLoader

from diffsmooth.lit.data import ImageDataModule, load_images
from diffsmooth.lit.data.images import DataError, image_digest
from diffsmooth.lit.data.published import SYSTEM_FOLDER
from diffsmooth.lit.data.training_set import checked_split


def save_npz(path: Path, n: int = 4, side: int = 6, classes: int = 2) -> Path:
    images = np.arange(n * side * side * 3, dtype=np.uint8).reshape(n, side, side, 3)
    np.savez(path, images=images, labels=np.arange(n) % classes)
    return path


def test_the_shipped_sample_is_100_images_a_class_class_by_class() -> None:
    images = load_images("fashion_mnist_sample")
    assert len(images) == 1000
    assert images.labels.tolist() == [k for k in range(10) for _ in range(100)]
    sample = images[950]
    assert sample.image.shape == (1, 32, 32)
    assert sample.image.dtype == torch.float32
    assert (sample.label, sample.original_index) == (9, 950)
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert all((images[i].image[0][border] == 0).all() for i in range(0, 1000, 37))
    values = torch.stack([images[i].image for i in range(0, 1000, 10)])
    assert values.min() == 0
    assert 0.99 < values.max() <= 1
    # Fashion-MNIST's published mean of the unpadded images, within sampling error.
    assert values[:, :, 2:-2, 2:-2].mean() == pytest.approx(0.286, abs=0.03)


@pytest.mark.skipif(not SYSTEM_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is absent")
def test_the_sample_is_of_the_full_test_set(tmp_path: Path) -> None:
    full = load_images("fashion_mnist", tmp_path)
    assert len(full) == 10_000
    sample = load_images("fashion_mnist_sample")
    where = np.flatnonzero(full.labels == 3)[17]
    assert torch.equal(sample[317].image, full[int(where)].image)


def test_idx_files_are_found_under_the_root(tmp_path: Path) -> None:
    import gzip

    header = b"\x00\x00\x08\x03" + b"".join(v.to_bytes(4, "big") for v in (2, 28, 28))
    pixels = bytes(range(256)) * 6 + bytes(32)
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(header + pixels)
    labels = b"\x00\x00\x08\x01" + (2).to_bytes(4, "big") + bytes([3, 9])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(labels)
    images = load_images("fashion_mnist", tmp_path)
    assert images.labels.tolist() == [3, 9]
    assert images[0].image[0, 2, 2:7].tolist() == pytest.approx([i / 255 for i in range(5)])
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="not a readable idx file"):
        load_images("fashion_mnist", tmp_path)


def test_npz_images_keep_their_index_and_bytes(tmp_path: Path) -> None:
    images = load_images(str(save_npz(tmp_path / "mine.npz")))
    assert images.info.name == "mine"
    assert images.info.image_shape == (3, 6, 6)
    assert images.info.num_classes == 2
    batch = next(iter(DataLoader(images, batch_size=2, sampler=[3, 1])))
    assert batch.original_index.tolist() == [3, 1]
    assert batch.label.tolist() == [1, 1]
    with np.load(tmp_path / "mine.npz") as stored:
        expected = stored["images"][[3, 1]].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(batch.image.numpy(), expected, atol=1e-7)


def test_a_known_dataset_takes_an_npz_under_the_root(tmp_path: Path) -> None:
    images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "test.npz", images=images, labels=np.array([0, 9]))
    assert load_images("cifar10", tmp_path).info.name == "cifar10"
    np.savez(tmp_path / "test.npz", images=images, labels=np.array([0, 10]))
    with pytest.raises(DataError, match="label 10 of image 1 is beyond the 10 classes of cifar10"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((1, 4, 4), np.uint8)}, "array 'labels' is missing"),
        ({"images": np.zeros((1, 4, 4)), "labels": np.zeros(1, int)}, "images must be uint8"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.zeros(2, int)}, "labels must be"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.zeros(1)}, "labels must be"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "images must be"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.array(["a"])}, "labels must be"),
    ],
)
def test_broken_npz_files(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        load_images(str(path))


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.arange(4096).reshape(64, 64), labels=np.zeros(1))
    corrupt = bytearray(path.read_bytes())
    corrupt[200:400] = bytes(200)
    for content in (b"no zip", bytes(corrupt), b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable"):
            load_images(str(path))


def make_folder(root: Path, classes: list[str], side: int = 300) -> None:
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (side, side + 20), (10 * k, 0, 255)).save(root / name / "a.png")


def test_a_subset_of_imagenet_gets_the_canonical_labels(tmp_path: Path) -> None:
    make_folder(tmp_path / "val", ["n01514668", "n12144580"])  # cock, corn
    images = load_images("imagenet", tmp_path)
    assert images.info.num_classes == 1000
    assert [images[i].label for i in range(2)] == [7, 987]
    assert "cock" in images.info.class_names[7]
    assert images[0].image.shape == (3, 224, 224)
    assert images[1].image[:, 100, 100].tolist() == pytest.approx([10 / 255, 0.0, 1.0])
    (tmp_path / "flat" / "val").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match="flat/val: no class folders in it, named by WordNet ids"):
        load_images("imagenet", tmp_path / "flat")
    make_folder(tmp_path / "val", ["dogs"])
    with pytest.raises(DataError, match="not one of ImageNet's 1000 WordNet ids"):
        load_images("imagenet", tmp_path)


def test_labels_are_the_same_in_all_splits_of_a_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", ["ant", "bee", "cat"], side=32)
    make_folder(tmp_path / "test", ["ant", "cat"], side=32)
    (tmp_path / "test" / ".thumbnails").mkdir()
    images = load_images(str(tmp_path), split="test")
    assert images.labels.tolist() == [0, 2]
    assert images.info.class_names == ("ant", "bee", "cat")
    assert images.info.image_shape == (3, 52, 32)


def test_any_folder_of_images(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", ["cat", "dog"])
    images = load_images(str(tmp_path / "pets"))
    assert images.info.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="no class folders"):
        load_images(str(tmp_path / "pets" / "cat"))
    (tmp_path / "pets" / "cat" / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="not a readable image"):
        _ = images[0]


def test_unknown_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown dataset 'minst': known are fashion_mnist,"):
        load_images("minst")
    with pytest.raises(DataError, match="split must be train or test, got 'val'"):
        load_images("cifar10", tmp_path, "val")
    with pytest.raises(DataError, match=r"no such folder .--data_root, "):
        load_images("imagenet", tmp_path / "nowhere")


def test_fingerprints_tell_datasets_apart(tmp_path: Path) -> None:
    first = load_images(str(save_npz(tmp_path / "a.npz")))
    same = load_images(str(save_npz(tmp_path / "b.npz")))
    other = load_images(str(save_npz(tmp_path / "c.npz", classes=4)))
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()


def test_an_image_digest_is_that_of_its_shape_and_values() -> None:
    values = np.linspace(0, 1, 24, dtype="<f4").reshape(2, 3, 4)
    image = torch.from_numpy(values)
    expected = hashlib.sha256(b"(2, 3, 4)" + values.tobytes()).hexdigest()[:16]
    assert image_digest(image) == expected
    assert image_digest(image.transpose(1, 2).contiguous().transpose(1, 2)) == image_digest(image)
    other = image.clone()
    other[1, 2, 3] = torch.nextafter(other[1, 2, 3], torch.tensor(0.0))
    assert len({image_digest(x) for x in (image, other, image.view(2, 4, 3))}) == 3


def test_content_digests_tell_stored_bytes_apart(tmp_path: Path) -> None:
    images = load_images(str(save_npz(tmp_path / "a.npz", n=3)))
    rows = [images.content_digest(i) for i in range(3)]
    with np.load(tmp_path / "a.npz") as stored:
        first = np.ascontiguousarray(stored["images"][0].transpose(2, 0, 1))
    assert rows[0] == hashlib.sha256(first.tobytes()).hexdigest()[:16]
    assert len(set(rows)) == 3
    make_folder(tmp_path / "pets", ["cat", "dog"])
    pets = load_images(str(tmp_path / "pets"))
    file = tmp_path / "pets" / "dog" / "a.png"
    assert pets.content_digest(1) == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    file.unlink()
    with pytest.raises(DataError, match=r"a\.png: not a readable image"):
        pets.content_digest(1)


def test_held_out_images_are_a_fixed_partition() -> None:
    split = checked_split(100, 10, 0, seed=3)
    held_out, rest = split.validation, split.trained
    assert len(held_out) == 10
    assert sorted(held_out + rest) == list(range(100))
    assert checked_split(100, 10, 0, seed=3) == (held_out, [], rest)
    assert checked_split(100, 10, 0, seed=4).validation != held_out
    assert checked_split(5, 0, 0, seed=0) == ([], [], [0, 1, 2, 3, 4])
    with pytest.raises(DataError, match=r"got .*: --data.validation_images, of a training"):
        checked_split(5, 5, 0, seed=0)


def test_extra_images_are_added_with_their_weight(tmp_path: Path) -> None:
    write_stripes(tmp_path / "data")
    extra = tmp_path / "extra.npz"
    images = np.full((8, 32, 32), 7, np.uint8)
    np.savez(extra, images=images, labels=np.arange(8) % 4)

    def data(**changes: Any) -> ImageDataModule:
        options: dict[str, Any] = {
            "validation_images": 10,
            "extra": str(extra),
            "extra_weight": 0.25,
        }
        return ImageDataModule("fashion_mnist", str(tmp_path / "data"), **(options | changes))

    module = data()
    module.setup("fit")
    weights = [module.train[i].weight for i in range(len(module.train))]
    assert weights == [1.0] * 150 + [0.25] * 8
    assert len(module.validation) == 10  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="extra_weight must be at least 0"):
        data(extra_weight=-1.0)
    np.savez(extra, images=images, labels=np.full(8, 10))
    with pytest.raises(DataError, match="label 10 is beyond the 10 classes of fashion_mnist"):
        data().setup("fit")
    np.savez(extra, images=images[:, :16, :16], labels=np.arange(8))
    with pytest.raises(DataError, match="1 x 16 x 16, the training images are 1 x 32 x 32"):
        data().setup("fit")
