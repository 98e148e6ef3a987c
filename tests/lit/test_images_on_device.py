"""Batches that are gathered on the device are the usual loader's, to the bit."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from pictures import write_classes
from stripes import make_trainer
from torch import Tensor

from diffsmooth.lit.data import ImageDataModule, load_images
from diffsmooth.lit.data.images import ArrayImages, Batch, DataError, Sample
from diffsmooth.lit.data.loaders import WholeBatches, make_loader
from diffsmooth.lit.data.on_device import ResidentLoader, make_resident, why_not_resident
from diffsmooth.lit.data.purified import Purification, purify_images
from diffsmooth.lit.data.training_set import TrainingOrder, TrainingSet
from diffsmooth.lit.training import ConsistencyTraining, GaussianTraining, SmoothAdvTraining
from diffsmooth.models.classifiers.dataset_info import DatasetInfo

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*num_workers.*|.*logging interval.*|Checkpoint directory.*|The dirpath has changed.*"
)


def arrays(count: int, rng: np.random.Generator, name: str = "x") -> ArrayImages:
    info = DatasetInfo(name, (3, 8, 8), ("a", "b", "c"))
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return ArrayImages(images, rng.integers(0, 3, count), info, name)


def check_same(usual: Iterable[Any], ours: Iterable[Batch]) -> int:
    """Returns how many batches there were."""
    pairs = list(zip(usual, ours, strict=True))
    for theirs, own in pairs:
        for one, other in zip(theirs, own, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
    return len(pairs)


@pytest.mark.parametrize("extra", [None, 5, 90])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epochs_batches_are_the_usual_ones(
    extra: int | None, drop_last: bool, ranks: int, rng: np.random.Generator
) -> None:
    indices = rng.permutation(60)[:47].tolist()
    images = TrainingSet(
        arrays(60, rng), indices, None if extra is None else arrays(extra, rng, "more"), 0.3
    )
    resident = make_resident(images, CPU)
    for rank in range(ranks):
        for epoch, taken in ((0, 0), (3, 0), (3, 2)):
            order = TrainingOrder(images, 8, drop_last, 1, ranks, rank, partial(int, taken))
            loader = ResidentLoader(resident, 8, order)
            loader.sampler.set_epoch(epoch)
            usual = make_loader(images, 8, order, 0, pinned=False)
            assert len(loader) == len(usual)
            assert check_same(usual, loader) == len(usual) - taken


def test_so_are_those_of_validation_and_of_padded_and_purified_images(
    tmp_path: Path, root: Path, unet_file: Path
) -> None:
    images = load_images("fashion_mnist", root, "train")  # 28 x 28, padded
    wanted = Purification(str(unet_file), sigma=0.5, draws=2, folder=str(tmp_path / "draws"))
    draws = purify_images(images, "train", wanted, None)
    for given in (images, draws, torch.utils.data.Subset(images, [5, 3, 99])):
        sampler = WholeBatches(given, 32, None, 1, 0)
        assert why_not_resident(given, CPU) == ""
        loader = ResidentLoader(make_resident(given, CPU), 32, sampler)
        assert check_same(make_loader(given, 32, sampler, 0, pinned=False), loader)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"])


def fit(module: pl.LightningModule, folder: Path, root: Path, **options: Any) -> list[Any]:
    """The losses, then the weights."""
    losses, path = Losses(), options.pop("ckpt_path", None)
    saving = ModelCheckpoint(
        folder, "{step}", save_top_k=-1, every_n_train_steps=1, save_on_train_epoch_end=False
    )
    data = ImageDataModule(
        "fashion_mnist", str(root), batch_size=24, validation_images=32, **options
    )
    trainer = make_trainer(folder, 2, callbacks=[losses, saving])
    trainer.fit(module, datamodule=data, ckpt_path=path)
    loader = trainer.train_dataloader
    assert isinstance(loader, ResidentLoader) == bool(options.get("on_device"))
    return [*losses.losses, *module.state_dict().values()]


METHODS: list[tuple[type, dict[str, Any]]] = [
    (GaussianTraining, {}),
    (ConsistencyTraining, {}),
    (SmoothAdvTraining, {"steps": 1, "m_train": 2}),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_losses_and_weights_are_the_same_to_the_bit(
    method: type, options: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    found = []
    for on_device in (None, True):
        torch.manual_seed(0)
        module = method(arch="cifar_resnet8", sigma=0.25, **options)
        found.append(fit(module, tmp_path / str(on_device), root, on_device=on_device))
    assert len(found[0]) > 12
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_training_goes_on_with_either_loader_in_the_middle_of_an_epoch(
    tmp_path: Path, root: Path
) -> None:
    def module() -> GaussianTraining:
        torch.manual_seed(0)
        return GaussianTraining("cifar_resnet8", sigma=0.25)

    whole = fit(module(), tmp_path / "whole", root)
    path = tmp_path / "whole" / "step=4.ckpt"
    rest = fit(module(), tmp_path / "rest", root, on_device=True, ckpt_path=path)
    assert len(whole) - len(rest) == 4
    assert all(torch.equal(one, other) for one, other in zip(whole[4:], rest, strict=True))


def test_what_cannot_stay_there_is_loaded_or_refused(
    tmp_path: Path, root: Path, rng: np.random.Generator
) -> None:
    class Own(ArrayImages):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(image=1 - sample.image)

    plain = arrays(4, rng)
    own = Own(np.zeros((4, 8, 8, 3), np.uint8), plain.labels, plain.info, "own")
    assert why_not_resident(own, CPU) == "x's images are not bytes in memory"
    pets = write_classes(tmp_path / "pets", each=4)
    files = ImageDataModule(str(pets), batch_size=4, validation_images=2, on_device=True)
    files.setup("fit")
    with pytest.raises(DataError, match="on_device: not possible here: pets's images are not byt"):
        files.train_dataloader()
    files.on_device = None
    assert len(list(files.train_dataloader())) == 2


def test_the_option_reaches_the_loaders_of_all_stages(root: Path) -> None:
    data = ImageDataModule(
        "fashion_mnist", str(root), batch_size=32, validation_images=32, on_device=True
    )
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert isinstance(loader, ResidentLoader)
