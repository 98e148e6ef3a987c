"""The record of a training's images: in files, on cards, and against what files may hold."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.image_cards import MOST_BYTES, card_path, training_images_of
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages, split_images
from diffsmooth.models.checkpoints.weights import METADATA_KEY, CheckpointMetadata, write_checkpoint
from diffsmooth.stats.errors import UserError

REPOSITORY = Path(__file__).parents[3]


def record(**changes: Any) -> TrainingImages:
    split = split_images(60, 20, 8, 3)
    known = TrainingImages("stripes", "0a" * 32, 60, 20, 8, 3, split.choice, "validation")
    return known._replace(**changes)


def test_a_split_is_a_partition_whose_validation_does_not_depend_on_what_is_left_out() -> None:
    order = np.random.default_rng(3).permutation(60)
    split = split_images(60, 20, 8, 3)
    assert split.validation == sorted(order[:20].tolist())
    assert split.left_out == sorted(order[20:28].tolist())
    assert split.trained == sorted(order[28:].tolist())
    assert split_images(60, 20, 0, 3).validation == split.validation
    assert split_images(60, 20, 0, 3).choice != split.choice


def test_the_split_of_the_shipped_networks_is_pinned() -> None:
    # NumPy may change its streams; then these records must not be believed.
    assert split_images(60_000, 2_000, 0, 0).choice == "ef893946773fea3e"


def test_a_choice_that_comes_out_otherwise_is_no_split() -> None:
    assert record().split() == split_images(60, 20, 8, 3)
    assert record(choice="0" * 16).split() is None


def test_a_checkpoint_keeps_its_record_and_weights_alone_read_it(
    tmp_path: Path, classifier_file: Path
) -> None:
    checkpoint = read_checkpoint(classifier_file)
    assert checkpoint.images is None
    path = tmp_path / "c.pt"
    write_checkpoint(path, checkpoint.metadata, checkpoint.state_dict, 0, record())
    assert read_checkpoint(path).images == record()
    content = torch.load(path, weights_only=True)
    # Readers of version 0.2 refuse metadata that they do not know: it does not stand there.
    assert set(content[METADATA_KEY]) == set(CheckpointMetadata._fields)
    assert all(type(value) in (str, int) for value in content[IMAGES_KEY].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "a\x1b[2J"}, "dataset of its images is not a word"),
        ({"digest": "0a" * 31}, "digest of its images is not 64 hex digits"),
        ({"digest": 7}, "digest of its images is not 64 hex digits"),
        ({"choice": "x" * 16}, "choice of its images is not 16 hex digits"),
        ({"total": True}, "total of its images is not a whole number"),
        ({"total": 10**13}, "total of its images is not a whole number"),
        ({"validation": -1}, "validation of its images is not a whole number"),
        ({"seed": 2**65}, "seed of its images is not a whole number"),
        ({"left_out": 40}, "of its 60 images 20 and 40 are said to be held out"),
        ({"chosen_by": "luck"}, "chosen_by of its images is not one of"),
        ({"chosen_by": ["test"]}, "chosen_by of its images is not one of"),
        ({"pretrained": "yes"}, "pretrained of its images is not one of"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused(
    tmp_path: Path, classifier_file: Path, changes: dict[str, Any], message: str
) -> None:
    checkpoint, path = read_checkpoint(classifier_file), tmp_path / "c.pt"
    write_checkpoint(path, checkpoint.metadata, checkpoint.state_dict, 0, record(**changes))
    with pytest.raises(UserError, match=message) as raised:
        read_checkpoint(path)
    assert str(raised.value).startswith(f"{path}: a broken checkpoint (")
    assert str(raised.value).isprintable()


def test_a_record_that_is_no_mapping_lacks_a_field_or_is_of_a_later_version() -> None:
    said = record()._asdict()
    with pytest.raises(UserError, match="no mapping"):
        TrainingImages.from_stored([1])
    with pytest.raises(UserError, match="lacks digest, seed"):
        TrainingImages.from_stored({k: v for k, v in said.items() if k not in ("digest", "seed")})
    assert TrainingImages.from_stored({**said, "new": 1}) is None


def test_the_same_images() -> None:
    assert record().same_images(record(chosen_by="nothing"))
    # Of one seed and number held out: the rest is the same, whatever they were held out for.
    assert record().same_images(record(validation=8, left_out=20))
    # But not if what is left out of everything here was looked at there.
    assert not record(validation=8, left_out=20).same_images(record())
    for other in (
        None, record(seed=4), record(digest="1" * 64), record(left_out=7),
        record(pretrained="other"), record(extra_digest="2" * 64),
    ):  # fmt: skip
        assert not record().same_images(other)


def test_words() -> None:
    assert record().describe() == (
        "trained on 32 of the 60 images of stripes; 20 held out for validation, which may have "
        "chosen this checkpoint; 8 left out of everything; chosen by seed 3 (training split "
        "0a0a0a0a0a0a)"
    )
    said = record(validation=0, left_out=0, chosen_by="test", extra="more", extra_total=1234,
                  pretrained="other").describe()  # fmt: skip
    assert "trained on 60 of the 60 images" in said
    assert "its TEST images may have chosen this checkpoint" in said
    assert "1,234 images of more" in said
    assert "begun with a checkpoint of other or unknown images" in said


@pytest.fixture
def bare(tmp_path: Path, classifier_file: Path) -> Path:
    path = tmp_path / "c.pt"
    path.write_bytes(classifier_file.read_bytes())
    return path


def test_a_card_speaks_for_its_own_file(bare: Path) -> None:
    checkpoint = read_checkpoint(bare)
    assert str(training_images_of(checkpoint)) == (
        "unknown: the checkpoint does not say which images trained it"
    )
    digest = hashlib.sha256(bare.read_bytes()).hexdigest()
    card = card_path(bare)
    assert card.name == "c.pt.images.json"
    card.write_text(json.dumps({"sha256": digest, **record()._asdict()}))
    assert training_images_of(checkpoint).record == record()
    assert read_checkpoint(bare).images is None
    card.write_text(json.dumps({"sha256": "0" * 64, **record()._asdict()}))
    told = training_images_of(checkpoint)
    assert (told.record, told.why) == (None, f"{card.name} beside it is the card of another file")
    # A file's own record goes before a card.
    own = checkpoint._replace(images=record(seed=0))
    assert training_images_of(own).record == record(seed=0)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{}", b"\xff", b"[" * 5000, b" " * (MOST_BYTES + 1), b'{"sha256": 1e999}'],
)
def test_a_card_that_is_none_is_one_line(bare: Path, content: bytes) -> None:
    card_path(bare).write_bytes(content)
    with pytest.raises(UserError, match="no card of a training's images") as raised:
        training_images_of(read_checkpoint(bare))
    assert "\n" not in str(raised.value)


def test_the_cards_of_the_shipped_networks() -> None:
    files = sorted((REPOSITORY / "checkpoints").glob("*.pt"))
    told = {file.name: training_images_of(read_checkpoint(file)) for file in files}
    ours = {name for name in told if name.startswith("fashion_mnist")}
    of_the_study = {name for name in told if name.startswith("cifar10_resnet20")}
    assert {name for name, one in told.items() if one.record} == ours | of_the_study
    for name in of_the_study:
        found = told[name].record
        assert found is not None
        assert (found.trained, found.validation, found.left_out) == (48_000, 0, 0)
        assert found.chosen_by == "nothing"
    for name in ours:
        found = told[name].record
        assert found is not None
        assert (found.trained, found.validation, found.left_out) == (58_000, 2_000, 0)
        assert found.split() is not None
        last = "smoothadv" in name or "diffusion" in name  # taken as the training ended
        assert found.chosen_by == ("nothing" if last else "validation")
