"""The names of classes that people keep beside a classifier's weights."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffsmooth.lit.data import load_images
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.told_classes import told_classes
from diffsmooth.pipeline.classifier_choice import check_classifier
from diffsmooth.pipeline.inputs import reading_for
from diffsmooth.pipeline.specification import ImageOptions
from diffsmooth.stats.errors import UserError

NAMES = ["zebra", "apples", "mole"]  # in no alphabet's order


@pytest.mark.parametrize(
    "said",
    [
        {"class_names": NAMES},
        {"classes": tuple(NAMES)},
        {"class_to_idx": {"mole": 2, "zebra": 0, "apples": 1}},
        {"id2label": {"0": "zebra", "2": "mole", "1": "apples"}},
        {"idx_to_class": dict(enumerate(NAMES)), "class_names": NAMES},
        {"class_to_idx": {name: np.int64(n) for n, name in enumerate(map(np.str_, NAMES))}},
        {"class_to_idx": {name: torch.tensor(n) for n, name in enumerate(NAMES)}},
    ],
)
def test_each_way_of_saying_them_is_read(said: dict[str, Any]) -> None:
    assert told_classes({"epoch": 3, **said}) == NAMES


@pytest.mark.parametrize("said", [{}, {"classes": 3}, {"class_names": [1, 2]}, {"classes": []}])
def test_what_is_no_list_of_names_says_nothing(said: dict[str, Any]) -> None:
    assert told_classes(said) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"class_to_idx": {"a": 1, "b": 2}}, "does not give each label from 0 to 1 a name"),
        ({"class_to_idx": {"a": 0, "b": 0}}, "does not give each label"),
        ({"id2label": {0: 7}}, "no class"),
        ({"id2label": {0.5: "a"}}, "no class"),
        ({"id2label": {"1" * 5000: "a"}}, "no class"),
        ({"id2label": {1: "a", 2: "b"}}, "does not give each label"),
        ({"class_names": ["a", "b"], "class_to_idx": {"b": 0, "a": 1}}, "not the same classes"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        told_classes(said)


def test_a_file_that_contradicts_itself_has_no_names_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    weights = {"state_dict": {"fc.weight": torch.zeros(2, 4)}}
    torch.save({**weights, "class_names": ["Cat", "Dog"], "label2id": {"cat": 0, "dog": 1}}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata.class_names == []
    assert checkpoint.note == (
        f"{path}: its class_names and its label2id are not the same classes, so that names of "
        "classes are not taken from it"
    )


def folders(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (NAMES.index(name), 0, 0)).save(root / name / "1.png")
    return root


def test_folders_have_the_labels_of_a_strangers_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 4)}, "class_names": NAMES}, path)
    checkpoint = read_checkpoint(path)
    images = load_images(
        str(folders(tmp_path / "pictures", random.Random(0).sample(NAMES, 3))),
        reading=reading_for(checkpoint, ImageOptions()),
    )
    assert images.info.class_names == tuple(NAMES)
    for index, label in enumerate(images.labels):
        assert 255 * images[index].image[0, 0, 0] == label
    check_classifier(checkpoint, images.info, images)
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 4)}, "class_names": NAMES[:2]}, path)
    with pytest.raises(UserError, match="names 2 classes, pictures has 3"):
        check_classifier(read_checkpoint(path), images.info, images)


def test_an_array_in_another_order_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "net.pt", tmp_path / "d.npz"
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 4)}, "class_names": NAMES}, path)
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(data, images=pixels, labels=np.arange(3), class_names=sorted(NAMES))
    checkpoint = read_checkpoint(path)
    images = load_images(str(data))
    with pytest.raises(UserError, match="the classes are in another order"):
        check_classifier(checkpoint, images.info, images)
