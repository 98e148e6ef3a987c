"""Folders of one's own images: which files count, their one size, and the labels of the classes."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import RGB, coloured, exif, png, write_classes
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from diffsmooth.lit.data import ImageDataModule, ImageSet, Reading, load_images
from diffsmooth.lit.data import reading as reading_module
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.picture import UnreadableImage
from diffsmooth.lit.data.sources import describe_dataset, has_split


def load(root: Path, split: str = "test", **reading: object) -> ImageSet:
    return load_images(str(root), split=split, reading=Reading(**reading))  # type: ignore[arg-type]


def test_images_of_one_size_stay_as_they_are(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", size=(20, 24))
    images = load(tmp_path / "pets")
    assert images.info.image_shape == (3, 20, 24)
    stored = np.array([np.asarray(Image.open(p)) for p in images.paths])  # type: ignore[attr-defined]
    np.savez(tmp_path / "same.npz", images=stored, labels=images.labels)
    same = load_images(str(tmp_path / "same.npz"))
    for k in range(4):
        assert torch.equal(images[k].image, same[k].image)
    assert images.describe().startswith("images: 4 of 3 x 20 x 24, pets\n")
    assert describe_dataset(str(tmp_path / "pets")) == images.info


def test_several_sizes_are_refused_until_one_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path, each=7, size=(30, 30))
    coloured(20, 24).save(tmp_path / "cat" / "00.png")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    said = str(caught.value)
    assert "its 15 images have 2 sizes: 30 x 30 (14), 20 x 24 (1)" in said
    assert "cat/00.png is 20 x 24" in said
    assert "--image_size N" in said
    images = load(tmp_path, image_size=16)
    assert images.info.image_shape == (3, 16, 16)
    for k in (1, 0):  # 00.png, 0.png
        resized = v2.Resize(16)(Image.open(images.paths[k]))  # type: ignore[attr-defined]
        expected = v2.functional.to_dtype(
            v2.functional.to_image(v2.CenterCrop(16)(resized)), scale=True
        )
        # Pillow's bilinear filter rounds to 8 bits in each direction.
        torch.testing.assert_close(images[k].image, expected, atol=1.1 / 255, rtol=0)


def test_resized_images_have_eight_bits(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (30, 20, 3)).astype(np.uint16)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "x.png").write_bytes(png(deep, RGB))
    coloured(20, 24).save(tmp_path / "cat" / "y.png")
    for sample in (load(tmp_path, image_size=16)[k] for k in range(2)):
        levels = (255 * sample.image).round()
        assert torch.equal(sample.image, levels / 255)
        assert len(levels.unique()) > 50


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_loaders_process_is_the_error_alone(tmp_path: Path, workers: int) -> None:
    write_classes(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(b"broken")
    loader = DataLoader(
        load(tmp_path), num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    with pytest.raises(UnreadableImage) as caught:
        next(iter(loader))
    assert str(caught.value) == f"{tmp_path}/cat/0.png: not a readable image"


def test_a_file_that_changes_its_size_is_no_image_of_the_set(tmp_path: Path) -> None:
    write_classes(tmp_path)
    images = load(tmp_path)
    coloured(9, 9).save(tmp_path / "dog" / "1.png")
    with pytest.raises(DataError, match=r"dog/1\.png: 9 x 9, all others are 8 x 8"):
        _ = images[3]


def test_a_broken_file_fails_alone(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(b"broken")
    (tmp_path / "cat" / "1.png").write_bytes((tmp_path / "dog" / "1.png").read_bytes()[:80])
    images = load(tmp_path)
    assert images.info.image_shape == (3, 8, 8)
    for k in (0, 1):
        with pytest.raises(DataError, match=rf"cat/{k}\.png: not a readable image"):
            _ = images[k]
    assert images[3].label == 1
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="none of its 4 images can be read"):
        load(tmp_path)


def test_orientations_are_asked_for_and_sizes_follow(tmp_path: Path) -> None:
    write_classes(tmp_path, size=(8, 6))
    coloured(6, 8).save(tmp_path / "cat" / "a.jpg", exif=exif(6))
    coloured(8, 6).save(tmp_path / "cat" / "b.jpg", exif=exif(1))
    with pytest.raises(DataError, match=r"1 of its 6 images carry .*, cat/a\.jpg the first: say"):
        load(tmp_path)
    with pytest.raises(DataError, match="1 of its 6 images carry"):
        load(tmp_path, image_size=4)
    assert load(tmp_path, exif="apply").info.image_shape == (3, 8, 6)
    with pytest.raises(DataError, match=r"have 2 sizes: 8 x 6 \(5\), 6 x 8 \(1\)"):
        load(tmp_path, exif="ignore")
    applied = load(tmp_path, image_size=4, exif="apply")
    ignored = load(tmp_path, image_size=4, exif="ignore")
    assert not torch.equal(applied[2].image, ignored[2].image)
    assert torch.equal(applied[3].image, ignored[3].image)
    assert applied.fingerprint() != ignored.fingerprint()


def test_grey_images_for_a_network_of_one_channel(tmp_path: Path) -> None:
    write_classes(tmp_path)
    images, grey = load(tmp_path), load(tmp_path, channels=1)
    assert grey.info.image_shape == (1, 8, 8)
    luma = torch.einsum("chw,c->hw", images[0].image, torch.tensor([0.299, 0.587, 0.114]))
    torch.testing.assert_close(grey[0].image[0], luma, atol=0.6 / 255, rtol=0)
    assert grey.fingerprint() != images.fingerprint()


def test_only_regular_files_count_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "pets")
    os.mkfifo(root / "cat" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(root / "dog")  # its name may be short only
        bound.bind("socket.png")
    os.symlink("/dev/zero", root / "dog" / "zero.png")
    os.symlink("..", root / "cat" / "up")  # would have no end
    os.symlink(root, root / "cat" / "self")
    os.symlink(root, root / "again")
    (root / "folder.png").mkdir()
    (root / "folder.png" / "x.png").write_bytes((root / "cat" / "0.png").read_bytes())
    for hidden in ("__MACOSX/cat", ".ipynb_checkpoints", "cat/.thumbs", "@eaDir"):
        (root / hidden).mkdir(parents=True)
        coloured().save(root / hidden / "x.png")
    for name in ("cat/._0.png", "cat/Thumbs.db", "cat/.DS_Store", "dog/notes.txt", "README.png"):
        (root / name).write_bytes(b"?")
    images = load(root)
    names = [str(path.relative_to(root)) for path in images.paths]  # type: ignore[attr-defined]
    assert names == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "folder.png/x.png"]
    said = images.describe()
    for words in (
        "3 (no regular files): ",
        "3 (links to a folder that holds them): ",
        "6 (hidden): ",
        "2 (no images by their ending): ",
        "1 (in no class folder): ",
    ):
        assert f"skipped {words}" in said


def test_links_to_files_and_to_class_folders_are_followed(tmp_path: Path) -> None:
    root, other = write_classes(tmp_path / "pets"), write_classes(tmp_path / "other", ("x",))
    os.symlink(other / "x" / "1.png", root / "cat" / "z.png")
    os.symlink(other / "x", root / "emu")
    images = load(root)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert torch.equal(images[2].image, images[6].image)


def test_a_class_folder_that_is_another_is_refused(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets")
    os.symlink("cat", root / "kitten")
    with pytest.raises(DataError, match=r"kitten and .*cat are one folder"):
        load(root)


@pytest.mark.parametrize("place", ["emu", "cat/x.png", "cat/folder"])
def test_a_link_to_nothing_is_named(tmp_path: Path, place: str) -> None:
    root = write_classes(tmp_path / "pets")
    os.symlink("/nowhere", root / place)
    with pytest.raises(DataError, match=f"{place}: a link to nothing"):
        load(root)
    os.unlink(root / place)
    os.symlink(root / place, root / place)  # a circle
    with pytest.raises(DataError, match=f"{place}: a link to nothing"):
        load(root)


def test_endings_are_read_in_any_case_and_names_need_not_differ(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets")
    (root / "cat" / "0.png").rename(root / "cat" / "0.PNG")
    coloured().save(root / "dog" / "b.JPeG", "JPEG")
    assert load(root).labels.tolist() == [0, 0, 1, 1, 1]


def test_names_that_no_terminal_shows_are_escaped(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets")
    strange = os.fsencode(root) + b"/zo\xff\x1b[31m"
    os.mkdir(strange)
    with open(strange + b"/\xfe.png", "wb") as file:
        file.write((root / "cat" / "0.png").read_bytes())
    images = load(root)
    assert images.info.class_names == ("cat", "dog", r"zo\udcff\x1b[31m")
    assert images.describe().encode().isascii()
    assert len(images.fingerprint()) == 64
    with open(strange + b"/\xfe.png", "wb") as file:
        file.write(b"broken")
    with pytest.raises(DataError) as caught:
        _ = images[4]
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        ([str(k) for k in range(12)], [str(k) for k in range(12)]),
        (["10", "2", "1"], ["1", "2", "10"]),
        (["10", "02", "-1", "+3"], ["-1", "02", "+3", "10"]),
        (["10", "2", "cat"], ["10", "2", "cat"]),
        (["10.5", "9"], ["10.5", "9"]),
    ],
)
def test_folders_named_by_integers_are_ordered_by_number(
    tmp_path: Path, names: list[str], ordered: list[str]
) -> None:
    write_classes(tmp_path, tuple(names), each=1)
    images = load(tmp_path)
    assert images.info.class_names == tuple(ordered)
    assert images.labels.tolist() == list(range(len(names)))
    assert [path.parent.name for path in images.paths] == ordered  # type: ignore[attr-defined]
    assert f"classes, by order: 0 = {ordered[0]}, 1 = {ordered[1]}" in images.describe()


def test_two_folders_of_one_number_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, ("1", "01", "2"), each=1)
    with pytest.raises(DataError, match="class folders 01 and 1 are one number"):
        load(tmp_path)


def test_folders_named_as_the_classifiers_classes_are_those(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", ("cat", "emu"), each=1)
    known = ("emu", "ant", "bee", "cat")
    images = load(tmp_path / "pets", class_names=known)
    assert images.labels.tolist() == [3, 0]
    assert images.info.class_names == known
    assert "classes, by the classifier's names: 3 = cat, 0 = emu" in images.describe()
    text_order = ("0", "1", "10", "2")  # a classifier that was trained on such labels
    write_classes(tmp_path / "numbers", ("0", "2", "10"), each=1)
    assert load(tmp_path / "numbers", class_names=text_order).labels.tolist() == [0, 3, 2]
    write_classes(tmp_path / "zeros", ("01", "02"), each=1)
    assert load(tmp_path / "zeros", class_names=text_order).labels.tolist() == [1, 3]
    with pytest.raises(DataError, match="'02' is none of the classifier's classes, and '01' is"):
        load(tmp_path / "zeros", class_names=("0", "1"))
    with pytest.raises(DataError, match="'emu' is none of the classifier's classes, and 'cat' is"):
        load(tmp_path / "pets", class_names=("cat", "dog"))
    other = load(tmp_path / "pets", class_names=("T-shirt", "Trouser", "Pullover"))
    assert other.labels.tolist() == [0, 1]
    assert other.info.class_names == ("cat", "emu")
    assert "by the folders' order, for the classifier has other names" in other.describe()
    write_classes(tmp_path / "ids", ("n01514668", "n12144580"), each=1)
    with pytest.raises(DataError, match="call the data set imagenet"):
        load(tmp_path / "ids", class_names=("tench", "goldfish", "shark"))


@pytest.mark.parametrize("content", [None, "notes.txt", ".hidden.png"])
def test_a_class_folder_without_an_image_is_refused(tmp_path: Path, content: str | None) -> None:
    write_classes(tmp_path)
    (tmp_path / "annotations").mkdir()
    if content:
        (tmp_path / "annotations" / content).write_bytes(b"?")
    with pytest.raises(DataError, match="annotations: a folder without an image would count"):
        load(tmp_path)


def test_splits_are_folders_of_class_folders(tmp_path: Path) -> None:
    write_classes(tmp_path / "a" / "train", ("ant", "bee", "cat"))
    write_classes(tmp_path / "a" / "test", ("ant", "cat"))
    assert load(tmp_path / "a").labels.tolist() == [0, 0, 2, 2]
    assert has_split(str(tmp_path / "a"), "test")
    write_classes(tmp_path / "b" / "train")
    write_classes(tmp_path / "b" / "val")
    with pytest.raises(DataError, match=r"holds train/, val/, but no test/ .*give .*b/val"):
        load(tmp_path / "b")
    assert load(tmp_path / "b", split="train").labels.tolist() == [0, 0, 1, 1]
    assert not has_split(str(tmp_path / "b"), "test")
    write_classes(tmp_path / "c" / "val")
    with pytest.raises(DataError, match=r"holds val/, but no test/"):
        load(tmp_path / "c")
    write_classes(tmp_path / "vehicles", ("car", "plane", "train"))  # a class of that name
    assert load(tmp_path / "vehicles").info.class_names == ("car", "plane", "train")
    assert not has_split(str(tmp_path / "vehicles"), "train")
    write_classes(tmp_path / "flat", ("train", "test"))  # images, but no classes
    with pytest.raises(DataError, match="no class folders in it"):
        load(tmp_path / "flat")
    with pytest.raises(DataError, match="no class folders in it"):
        load(tmp_path / "flat" / "test")
    np.savez(tmp_path / "flat" / "train.npz", images=np.zeros((1, 4, 4), np.uint8), labels=[0])
    with pytest.raises(DataError, match=r"holds train\.npz, but no test\.npz"):
        load(tmp_path / "flat")


def test_what_is_no_folder_has_a_size_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((1, 4, 4), np.uint8), labels=[0])
    for dataset, size in ((str(tmp_path / "x.npz"), 4), ("fashion_mnist_sample", 32)):
        assert load_images(dataset, reading=Reading(image_size=size))
        with pytest.raises(DataError, match=f"has {size} x {size}, got 16"):
            load_images(dataset, reading=Reading(image_size=16))
        with pytest.raises(DataError, match="exif is for folders"):
            load_images(dataset, reading=Reading(exif="apply"))


def test_training_takes_the_stated_size(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", size=(8, 8), each=4)
    write_classes(tmp_path / "test", size=(9, 9))

    def module(**changes: object) -> ImageDataModule:
        return ImageDataModule(str(tmp_path), validation_images=0, **changes)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="test images: 3 x 9 x 9, the training images are 3 x 8 x"):
        module().setup("fit")
    data = module(image_size=6)
    data.setup("fit")
    assert data.train[0].image.shape == data.validation[0].image.shape == (3, 6, 6)
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        module(image_size=0)
    with pytest.raises(ValueError, match="exif must be apply or ignore, got 'turn'"):
        module(exif="turn")


def test_headers_are_read_once_and_pixels_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    write_classes(tmp_path)
    cut = png(pixels, 2)[:60]  # its header is whole, its pixels are not
    (tmp_path / "cat" / "0.png").write_bytes(cut)
    read: list[Path] = []
    real: Callable[[Path], object] = reading_module.read_header

    def counted(path: Path) -> object:
        read.append(path)
        return real(path)

    monkeypatch.setattr(reading_module, "read_header", counted)
    for _ in range(3):
        assert load(tmp_path).info.image_shape == (3, 8, 8)
    assert len(read) == 4
    assert load(tmp_path, image_size=4, exif="apply").info.image_shape == (3, 4, 4)
    assert len(read) == 4
