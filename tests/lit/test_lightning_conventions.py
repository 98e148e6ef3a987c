"""Training modules among Lightning's own things: loaders, tuners, compilers, checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from stripes import make_data, make_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diffsmooth.lit.data import ImageDataModule
from diffsmooth.lit.data.images import Batch
from diffsmooth.lit.training import (
    ConsistencyTraining,
    DiffusionTraining,
    GaussianTraining,
    MacerTraining,
    SmoothAdvTraining,
    SmoothMixTraining,
    StabilityTraining,
)
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import TrainingModule
from diffsmooth.models import load_classifier
from diffsmooth.models.checkpoints.weights import write_checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
    "ignore:You defined a .validation_step. but have no",
)
ARCH = "cifar_resnet8"
PETS = DatasetInfo("pets", (3, 8, 8), ("cat", "dog"))
METHODS: list[tuple[type[TrainingModule], dict[str, Any]]] = [
    (GaussianTraining, {"arch": ARCH, "sigma": 0.125}),
    (ConsistencyTraining, {"arch": ARCH, "m": 3, "epsilon": 0.25, "seed": 5}),
    (MacerTraining, {"arch": ARCH, "k": 2, "input_layer": "center"}),
    (SmoothAdvTraining, {"arch": ARCH, "attack": "ddn", "flip": False}),
    (SmoothMixTraining, {"arch": ARCH, "mix_step": 1}),
    (StabilityTraining, {"arch": ARCH, "weight": 3.0, "crop_padding": 2}),
    (DiffusionTraining, {"overrides": dict(TINY_UNET), "psnr_sigmas": [0.25]}),
]
methods = pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda x: str(x)[-20:])


def loader(info: DatasetInfo, count: int = 12, batch: int = 4) -> DataLoader[Any]:
    """A reader's own: images whose first pixel tells their class."""
    labels = torch.arange(count) % info.num_classes
    images = torch.rand(count, *info.image_shape) / 2 + labels.view(-1, 1, 1, 1) / 2
    return DataLoader(TensorDataset(images.clamp(0, 1), labels), batch_size=batch)


def saved(module: TrainingModule, root: Path) -> Path:
    """The checkpoint of a step on the stripes."""
    folder = root.parent / "out"
    saving = ModelCheckpoint(folder, save_last=True)
    make_trainer(folder, 1, callbacks=[saving], limit_train_batches=1, limit_val_batches=1).fit(
        module, datamodule=make_data(root)
    )
    return folder / "last.ckpt"


@methods
def test_a_checkpoint_is_loaded_without_arguments(
    method: Any, options: dict[str, Any], root: Path
) -> None:
    rate = LearningRate("milestones", milestones=(2, 3))
    module = method(**options, learning_rate=rate, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    last = saved(module, root)
    content = torch.load(last, weights_only=True)
    assert {type(value) for value in content["hyper_parameters"].values()} <= {
        int, float, str, bool, tuple, dict, type(None),
    }  # fmt: skip
    loaded = method.load_from_checkpoint(last)
    assert dict(loaded.hparams) | {"optimizer": 0} == content["hyper_parameters"] | {"optimizer": 0}
    for name, value in options.items():
        assert loaded.hparams[name] == (tuple(value) if isinstance(value, list) else value)
    assert loaded.settings() == module.settings()
    assert loaded.metadata() == module.metadata()
    for key, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    del content["hyper_parameters"]  # as older versions wrote it
    torch.save(content, last)
    assert method.load_from_checkpoint(last).settings() == module.settings()


def test_an_exported_checkpoint_says_some_of_its_options(tmp_path: Path) -> None:
    module = GaussianTraining(ARCH, sigma=0.125)
    write_checkpoint(tmp_path / "c.pt", module.metadata(), module.network.state_dict())
    loaded = GaussianTraining.load_from_checkpoint(tmp_path / "c.pt", seed=3)
    assert (loaded.hparams.sigma, loaded.hparams.seed, loaded.hparams.arch) == (0.125, 3, ARCH)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded.eval()(images), module.eval()(images))
    write_checkpoint(
        tmp_path / "c.pt", module.metadata()._replace(sigma=None), module.network.state_dict()
    )
    with pytest.raises(UserError, match=r"c\.pt: does not say its sigma: give sigma="):
        GaussianTraining.load_from_checkpoint(tmp_path / "c.pt")
    assert GaussianTraining.load_from_checkpoint(tmp_path / "c.pt", sigma=0.5).hparams.sigma == 0.5


def test_what_was_purified_comes_back(root: Path, tmp_path: Path) -> None:
    module = GaussianTraining(ARCH)
    module.purified_sigma = 0.5  # as train.py does
    last = saved(module, root)
    write_checkpoint(tmp_path / "c.pt", module.metadata(), module.network.state_dict())
    for path in (last, tmp_path / "c.pt"):
        assert GaussianTraining.load_from_checkpoint(path).metadata().purified_sigma == 0.5


def test_the_checkpoint_of_another_method_is_refused(root: Path) -> None:
    last = saved(GaussianTraining(ARCH), root)
    with pytest.raises(UserError, match="was trained by GaussianTraining, not by MacerTraining"):
        MacerTraining.load_from_checkpoint(last)


@methods
def test_a_plain_loader_will_do(
    method: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = DatasetInfo("stripes", (1, 32, 32), ("a", "b"), (0.5,), (0.5,))
    module = method(**options, dataset=info)
    trainer = make_trainer(tmp_path, 1, enable_checkpointing=False)
    trainer.fit(module, loader(info), loader(info, 6))
    measured: list[int] = []
    measure = module.measure

    def note(split: str, batch: Batch, name: str, values: Tensor) -> None:
        measured.extend(batch.original_index.tolist() if name == "loss" else [])
        measure(split, batch, name, values)

    monkeypatch.setattr(module, "measure", note)
    trainer.test(module, loader(info, 6), verbose=False)
    assert trainer.callback_metrics["test/loss"].isfinite()
    assert measured == list(range(6))


@pytest.mark.parametrize("method", [GaussianTraining, SmoothAdvTraining, DiffusionTraining])
@pytest.mark.parametrize(
    "images",
    [
        torch.rand(4, 1, 32, 32) * 255, torch.rand(4, 1, 32, 32) - 0.5,
        torch.full((4, 1, 32, 32), torch.nan),
    ],
)  # fmt: skip
def test_plain_images_that_are_not_in_the_unit_cube_are_refused(
    method: Any, images: Tensor, tmp_path: Path
) -> None:
    """Noise of sigma 0.25 on [0, 255] is none, and the checkpoint would say 0.25."""
    info = DatasetInfo("stripes", (1, 32, 32), ("a", "b"), (0.5,), (0.5,))
    u_net = method is DiffusionTraining
    options: dict[str, Any] = {"overrides": dict(TINY_UNET)} if u_net else {"arch": ARCH}
    module = method(**options, dataset=info)
    batches = DataLoader(TensorDataset(images, torch.tensor([0, 1, 0, 1])), 2)
    for run in ("fit", "test"):
        trainer = make_trainer(tmp_path, 1, enable_checkpointing=False, limit_val_batches=0)
        with pytest.raises(ValueError, match=r"images must lie in \[0, 1\], or be uint8"):
            getattr(trainer, run)(module, batches)


def test_transforms_may_leave_the_unit_cube_by_their_rounding(tmp_path: Path) -> None:
    info = DatasetInfo("stripes", (1, 32, 32), ("a", "b"), (0.5,), (0.5,))
    images = torch.full((4, 1, 32, 32), 1.0000001)  # of torchvision's GaussianBlur of white
    batches = DataLoader(TensorDataset(images, torch.tensor([0, 1, 0, 1])), 2)
    attacking = SmoothAdvTraining(arch=ARCH, dataset=info, epsilon=0.5, steps=1)
    module = GaussianTraining(ARCH, dataset=info)
    for one in (attacking, module):
        make_trainer(tmp_path, 1, enable_checkpointing=False).fit(one, batches)
    bad = DataLoader(TensorDataset(images + 1, torch.tensor([0, 1, 0, 1])), 2)
    trainer = make_trainer(tmp_path, 1)
    with pytest.raises(ValueError, match="must lie in"):
        trainer.fit(module, bad)
    with pytest.raises(ValueError, match="must lie in"):  # nor is what came of it saved
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    make_trainer(tmp_path, 1).test(module, batches, verbose=False)  # it was the images, not it


def test_plain_images_may_be_bytes(tmp_path: Path) -> None:
    info = DatasetInfo("stripes", (1, 32, 32), ("a", "b"), (0.5,), (0.5,))
    images, labels = (torch.rand(4, 1, 32, 32) * 255).byte(), torch.tensor([0, 1, 0, 1])
    module, said = GaussianTraining(ARCH, dataset=info), []
    for same in (images, images / 255):
        batches = DataLoader(TensorDataset(same, labels), 2)
        said.append(make_trainer(tmp_path, 1).test(module, batches, verbose=False))
    assert said[0] == said[1]


@pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode")
def test_a_frozen_batch_norm_stays_frozen_where_images_are_attacked(tmp_path: Path) -> None:
    info = DatasetInfo("stripes", (1, 32, 32), ("a", "b"), (0.5,), (0.5,))
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(32 * 32, 2))
    module = SmoothAdvTraining(arch=net, dataset=info, epsilon=0.5, steps=1)
    net[0].eval()
    before = net[0].running_mean.clone()
    make_trainer(tmp_path, 1, enable_checkpointing=False).fit(module, loader(info))
    assert torch.equal(net[0].running_mean, before)


def test_without_an_index_the_noise_is_that_of_the_position(tmp_path: Path) -> None:
    """The batches' size does not matter, nor who says the index."""
    module = GaussianTraining(ARCH, PETS, sigma=0.25, input_layer="none")
    said = []
    for batch in (5, 2):
        trainer = make_trainer(tmp_path, 1)
        (metrics,) = trainer.test(module, loader_of_ones(batch), verbose=False)
        said.append(metrics["test/loss"])
    assert said[0] == pytest.approx(said[1], rel=1e-5)
    assert module.batch_of(
        [torch.zeros(2, 3, 8, 8), torch.zeros(2)], 0
    ).original_index.tolist() == [0, 1]
    assert module.batch_of(
        [torch.zeros(1, 3, 8, 8), torch.zeros(1)], 1
    ).original_index.tolist() == [2]


def loader_of_ones(batch: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(5, 3, 8, 8) / 2, torch.arange(5) % 2), batch)


class Net(nn.Module):
    """Somebody's classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean(dim=(2, 3)))


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    module = own()
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(module(images), module.classifier[1](images))
    saving = ModelCheckpoint(tmp_path, save_last=True)
    make_trainer(tmp_path, 1, callbacks=[saving]).fit(module, loader(PETS))
    assert module.metadata().arch == ""
    with pytest.raises(UserError, match=r"does not say its arch: give arch="):
        GaussianTraining.load_from_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="does not name its architecture: give it"):
        load_classifier(tmp_path / "last.ckpt")  # as certify.py does
    loaded = GaussianTraining.load_from_checkpoint(tmp_path / "last.ckpt", arch=Net())
    assert torch.equal(loaded(images), module(images))


def test_forward_is_the_networks() -> None:
    module = DiffusionTraining(overrides=dict(TINY_UNET)).eval()
    x, times = torch.rand(2, 1, 32, 32), torch.tensor([3.0])
    assert torch.equal(module(x, times), module.unet(x, times))


def own() -> GaussianTraining:
    return GaussianTraining(Net(), PETS, input_layer="none", crop_padding=0)


def test_the_learning_rate_finder_sets_where_the_schedule_begins(tmp_path: Path) -> None:
    module = own()
    assert module.new_optimizer().param_groups[0]["lr"] == 0.1
    trainer = make_trainer(tmp_path, 1, enable_checkpointing=False)
    found = Tuner(trainer).lr_find(
        module, loader(PETS, 160), num_training=30, early_stop_threshold=None
    )
    assert found is not None
    assert module.lr == found.suggestion()
    assert module.lr is not None
    assert module.new_optimizer().param_groups[0]["lr"] == module.lr
    assert module.settings()["optimizer.lr"] == module.lr
    trainer.fit(module, loader(PETS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's, on what it does not compile
def test_a_compiled_module_trains_as_a_plain_one(tmp_path: Path) -> None:
    weights = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module, data = own(), loader(PETS)
        made = torch.compile(module, backend="eager") if compiled else module
        make_trainer(tmp_path, 1, enable_checkpointing=False).fit(made, data)
        weights.append(module.classifier[1].head.weight.detach())  # type: ignore[union-attr, operator]
        images = torch.rand(2, 3, 8, 8)
        assert torch.equal(made(images), module.classifier(images))
    torch.testing.assert_close(weights[0], weights[1])


def test_the_data_module_works_without_a_trainer(root: Path) -> None:
    data = make_data(root)
    data.prepare_data()
    data.setup()
    batches = list(data.train_dataloader())
    assert sorted(torch.cat([b.original_index for b in batches]).tolist()) == sorted(
        set(range(160)) - {s.original_index for s in data.validation}
    )
    assert sum(len(b.image) for b in data.val_dataloader()) == 32
    assert sum(len(b.image) for b in data.test_dataloader()) == 40
    alone = ImageDataModule(str(root / "train.npz"), validation_images=8)
    alone.setup()  # it has no test images
    assert not hasattr(alone, "test")


def test_what_was_not_given_is_said_as_older_trainings_said_it() -> None:
    module = DiffusionTraining(preset="small-gray32", dataset="fashion_mnist")
    asked = {**module.metadata()._asdict(), **module.settings()}
    assert asked["overrides"] == {}  # and not None, which a checkpoint of 0.2 contradicts
