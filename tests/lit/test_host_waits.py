"""A training step asks the device for no number: on a GPU each would wait for all its work."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import TINY_UNET
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from stripes import make_data, make_trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from diffsmooth.lit import training
from diffsmooth.lit.training.divergence import StopDiverged
from diffsmooth.lit.training.progress_bar import show_seldom

# What copies a value to the host or needs one for a shape; `lift_fresh`: what Python's numbers
# became, which go to the device by a copy that waits.
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "is_nonzero", "lift_fresh")

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
    "ignore:.*no `val_dataloader`",
)


class Watch(TorchDispatchMode):
    """Notes where a step waits; `on` within steps only."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if self.on and name in WAITS:
            frames = [f for f in traceback.extract_stack()[:-1] if "/_" not in f.filename]
            self.waits.append(f"{name}: {frames[-1].filename}:{frames[-1].lineno}")
        return func(*args, **(kwargs or {}))


class WatchSteps(pl.Callback):
    """Watches each step's work; the callbacks before this one see the batch end within it."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.watch.on = batch_idx > 0  # at the first Lightning makes what it logs into

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.watch.on = False


def waits(module: pl.LightningModule, folder: Path, root: Path, **options: Any) -> list[str]:
    watch = Watch()
    callbacks = [StopDiverged(), *options.pop("callbacks", []), WatchSteps(watch)]
    trainer = make_trainer(
        folder, 1, callbacks=callbacks, limit_val_batches=0, enable_checkpointing=False, **options
    )
    with watch:
        trainer.fit(module, datamodule=make_data(root))
    return watch.waits


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("GaussianTraining", {}),
    ("StabilityTraining", {}),
    ("ConsistencyTraining", {}),
    ("ConsistencyTraining", {"epsilon": 0.25, "steps": 2}),
    ("SmoothAdvTraining", {"steps": 2, "m_train": 2}),
    ("SmoothAdvTraining", {"attack": "ddn", "steps": 2}),
    ("SmoothAdvTraining", {"attack": "gradient_free", "m_train": 2, "train_multi_noise": True}),
    ("MacerTraining", {"k": 2}),
    ("SmoothMixTraining", {"steps": 2, "mix_step": 1}),
]


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_a_step_of_a_classifiers_training_waits_for_nothing(
    name: str, options: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    torch.manual_seed(0)
    module = getattr(training, name)(arch="cifar_resnet8", sigma=0.25, **options)
    assert waits(module, tmp_path, root, gradient_clip_val=1.0) == []


@pytest.mark.parametrize("loss", ["simple", "hybrid"])
def test_a_step_of_a_diffusion_models_training_waits_for_nothing(
    loss: str, tmp_path: Path, root: Path
) -> None:
    overrides = {**TINY_UNET, "out_channels": 2 if loss == "hybrid" else 1}
    module = training.DiffusionTraining(
        overrides=overrides,
        loss=loss,  # type: ignore[arg-type]
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    )
    assert waits(module, tmp_path, root, gradient_clip_val=1.0) == []


@pytest.mark.parametrize("every", [None, 1])
def test_what_was_attacked_out_of_range_is_refused_before_a_checkpoint_has_it(
    every: int | None, tmp_path: Path
) -> None:
    """It was refused at once when each attack waited for the answer."""
    images, labels = torch.rand(12, 1, 32, 32) + 0.5, torch.arange(12) % 4
    pairs: Any = list(zip(images, labels, strict=True))
    loader: Any = DataLoader(pairs, 3)
    saving = ModelCheckpoint(tmp_path / "out", every_n_train_steps=every, save_last=True)
    module = training.SmoothAdvTraining(arch="cifar_resnet8", steps=1)
    trainer = make_trainer(tmp_path, 1, callbacks=[saving], log_every_n_steps=2)
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        trainer.fit(module, loader)
    assert trainer.global_step == (2 if every is None else 1)
    assert not list(tmp_path.glob("out/*"))


def test_a_progress_bar_reads_its_numbers_where_the_trainer_logs(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def get_metrics(self: Any, trainer: pl.Trainer, module: Any) -> dict[str, Any]:
        read.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        return {"loss": len(read)}

    monkeypatch.setattr(TQDMProgressBar, "get_metrics", get_metrics)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[TQDMProgressBar()], log_every_n_steps=3,
        limit_val_batches=0, default_root_dir=tmp_path,
    )  # fmt: skip
    show_seldom(trainer)
    data = make_data(root)
    data.batch_size = 16  # eight steps
    trainer.fit(training.GaussianTraining("cifar_resnet8"), datamodule=data)
    assert read == [3, 6, 8, 8]  # the last step, and the epoch's end
