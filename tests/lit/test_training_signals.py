"""Signals in a training are those that its command listens to."""

import signal
from pathlib import Path
from types import FrameType

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import make_data, make_trainer

from diffsmooth.lit.stopping import Stopped
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.lit.training.signals import KeepSignals

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*log_every_n_steps"
)


class _Sigterm(pl.Callback):
    def on_train_batch_end(self, *_: object) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_in_a_training_is_ours(tmp_path: Path, root: Path) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        raise Stopped(75)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        saving = ModelCheckpoint(tmp_path / "out")
        trainer = make_trainer(tmp_path, 1, callbacks=[KeepSignals(), _Sigterm(), saving])
        with pytest.raises(Stopped):
            trainer.fit(GaussianTraining("cifar_resnet8"), datamodule=make_data(root))
        assert trainer.global_step == 1
    finally:
        signal.signal(signal.SIGTERM, before)
