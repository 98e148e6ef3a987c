"""Which labels a training takes, and whether it needs test images."""

from pathlib import Path

import numpy as np
import pytest
from stripes import make_trainer

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.training import GaussianTraining

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*log_every_n_steps"
)

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)


def fit(tmp_path: Path) -> None:
    module = GaussianTraining(
        "cifar_resnet8", str(tmp_path / "d.npz"), input_layer="none", crop_padding=0
    )
    trainer = make_trainer(tmp_path, 1, enable_checkpointing=False, limit_val_batches=0)
    data = ImageDataModule(str(tmp_path / "d.npz"), batch_size=4, validation_images=4)
    trainer.fit(module, datamodule=data)


@pytest.mark.parametrize(
    ("labels", "absent"),
    [(np.arange(12) % 2 * 6 + 1, r"0, 2, 3, 4, 5, \.\.\."), (np.arange(12) % 3 + 1, "0")],
    ids=["gaps", "from one on"],
)
def test_classes_without_an_image_are_refused_unless_they_are_named(
    tmp_path: Path, labels: np.ndarray, absent: str
) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=labels)
    with pytest.raises(DataError, match=f"no image has label {absent}, and the largest is"):
        fit(tmp_path)
    names = np.array([f"class {k}" for k in range(labels.max() + 1)])
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=labels, class_names=names)
    fit(tmp_path)


def test_who_validates_on_nothing_needs_no_test_images(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/train.npz", images=IMAGES, labels=np.arange(12) % 2)
    data = ImageDataModule(str(tmp_path / "d"), validation_images=0)
    with pytest.raises(DataError, match="has no test images of its own"):
        data.setup("fit")
    data.trainer = make_trainer(tmp_path, 1, limit_val_batches=0)
    data.setup("fit")
    assert len(data.train) == 12
