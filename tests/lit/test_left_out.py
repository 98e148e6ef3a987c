"""What a training's checkpoints say of its images, and images that no training looks at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import make_trainer

from diffsmooth.lit.data import ImageDataModule, load_images
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.training_images import IMAGES_KEY, TrainingImages
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


def data_of(root: Path, **changes: Any) -> ImageDataModule:
    options: dict[str, Any] = {"validation_images": 32, "left_out_images": 16, "seed": 5}
    return ImageDataModule("fashion_mnist", str(root), batch_size=32, **(options | changes))


def fit(
    root: Path,
    name: str = "out",
    monitor: str | None = None,
    epochs: int = 1,
    ckpt_path: Path | None = None,
    pretrained: str | None = None,
    **changes: Any,
) -> Path:
    """Trains on the stripes for a step an epoch; the last checkpoint."""
    folder = root.parent / name
    saving = ModelCheckpoint(folder, save_last=True, monitor=monitor)
    trainer = make_trainer(folder, epochs, callbacks=[saving], limit_train_batches=1,
                           limit_val_batches=1)  # fmt: skip
    module = GaussianTraining("cifar_resnet8", pretrained=pretrained)
    trainer.fit(module, datamodule=data_of(root, **changes), ckpt_path=ckpt_path)
    return folder / "last.ckpt"


def told(path: Path) -> TrainingImages:
    found = read_checkpoint(path).images
    assert found is not None
    return found


def test_left_out_images_are_neither_trained_on_nor_validated_on(root: Path) -> None:
    data = data_of(root)
    data.setup("fit")
    order = np.random.default_rng(5).permutation(160)
    seen = data.train.indices
    assert seen == sorted(order[48:].tolist())
    validated = [sample.original_index for sample in data.validation]  # type: ignore[attr-defined]
    assert validated == sorted(order[:32].tolist())


def test_more_than_there_are(root: Path) -> None:
    with pytest.raises(UserError, match="left_out_images must be at least 0, got -1"):
        data_of(root, left_out_images=-1)
    with pytest.raises(DataError, match="together must be below the 160 training images, got 32 "):
        data_of(root, left_out_images=128).setup("fit")


def test_a_checkpoint_says_which_images_are_which(root: Path) -> None:
    found = told(fit(root))
    images = load_images("fashion_mnist", root, "train")
    assert found[:6] == ("fashion_mnist", images.fingerprint(), 160, 32, 16, 5)
    assert (found.chosen_by, found.extra, found.pretrained) == ("nothing", "", "")
    order = np.random.default_rng(5).permutation(160)
    split = found.split()
    assert split is not None
    assert split.left_out == sorted(order[32:48].tolist())
    assert split.trained == sorted(order[48:].tolist())


def test_it_says_what_may_have_chosen_it(root: Path) -> None:
    watched = fit(root, "a", monitor="val/noisy_accuracy")
    assert told(watched).chosen_by == "validation"
    on_test = fit(root, "b", monitor="val/loss", validation_images=0, left_out_images=0)
    assert told(on_test).chosen_by == "test"
    assert "its TEST images may have chosen this checkpoint" in told(on_test).describe()


def test_it_says_the_extra_images(root: Path, tmp_path: Path) -> None:
    extra = tmp_path / "more.npz"
    np.savez(extra, images=np.full((8, 32, 32), 7, np.uint8), labels=np.arange(8) % 4)
    found = told(fit(root, extra=str(extra)))
    assert (found.extra, found.extra_total) == ("more", 8)
    assert found.extra_digest == load_images(str(extra), split="train").fingerprint()


def test_what_trained_the_network_before_it_is_told(root: Path, classifier_file: Path) -> None:
    unknown = fit(root, "a", pretrained=str(classifier_file))
    assert told(unknown).pretrained == "other"
    first = fit(root, "b")
    assert told(fit(root, "c", pretrained=str(first))).pretrained == "same"
    assert told(fit(root, "d", pretrained=str(first), seed=6)).pretrained == "other"
    # Going on, it stays so, though the option is not given again.
    on = fit(root, "a", epochs=2, ckpt_path=unknown)
    assert told(on).pretrained == "other"


def test_a_resumed_training_leaves_the_same_images_out(root: Path) -> None:
    last = fit(root)
    with pytest.raises(DataError, match=r"was trained with data\.left_out_images 16, not 0"):
        fit(root, epochs=2, ckpt_path=last, left_out_images=0)
    with np.load(root / "train.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    np.savez(root / "train.npz", images=255 - images, labels=labels)
    with pytest.raises(DataError, match="was trained on other images than"):
        fit(root, epochs=2, ckpt_path=last)
    np.savez(root / "train.npz", images=images, labels=labels)
    assert told(fit(root, epochs=2, ckpt_path=last)).pretrained == ""


def test_a_training_of_version_0_2_goes_on(root: Path) -> None:
    last = fit(root, left_out_images=0)
    content = torch.load(last, weights_only=True)
    del content[IMAGES_KEY]
    for name in ("left_out_images", "images"):
        del content["ImageDataModule"][name]
    torch.save(content, last)
    # It left no images out: some of them have trained the network.
    with pytest.raises(DataError, match=r"was trained with data\.left_out_images 0, not 16"):
        fit(root, epochs=2, ckpt_path=last, left_out_images=16)
    assert told(fit(root, epochs=2, ckpt_path=last, left_out_images=0)).pretrained == "other"


def test_the_training_images_are_no_extra_images(root: Path) -> None:
    extra = str(root / "train.npz")
    for kept in ({"validation_images": 8}, {"validation_images": 0, "left_out_images": 8}):
        data = ImageDataModule(str(root), extra=extra, **kept)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"train\.npz: these are the training images, with"):
            data.setup("fit")
    ImageDataModule(str(root), extra=extra, validation_images=0).setup("fit")
