"""Certification in a reader's own Trainer, and who is told of its images."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsmooth.lit.certification import CertificationCallback, CertificationModule, Preparation
from diffsmooth.lit.certification.run_keeper import RunKeeper
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.images import ArrayImages, Sample
from diffsmooth.models import IdentityPurifier, LocalSmoothing
from diffsmooth.models.smoothing.fixed_function import NotFixed
from diffsmooth.models.smoothing.memory import OutOfMemory
from diffsmooth.models.smoothing.noise import draw_noise
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.errors import UserError

SELECTION = list(range(0, 1000, 70))  # 15 images
PLAN = FixedSampleSize(n0=8, n=30)


class Linear(nn.Module):
    """Ten classes by fixed random planes through grey."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        weight = torch.randn(10, 1024, generator=torch.Generator().manual_seed(3))
        self.register_buffer("weight", weight)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change((x.flatten(1) - 0.5) @ self.weight.T)


def make_module(classifier: nn.Module | None = None, in_flight: int = 5) -> CertificationModule:
    local = LocalSmoothing(classifier or Linear(), 1, 0.0, (1, 32, 32))
    f = VoteFunction(IdentityPurifier(), local, 0.5, 10, batch=16)
    images = load_images("fashion_mnist_sample")
    return CertificationModule(f, PLAN, images, SELECTION, in_flight=in_flight)


class Listener(CertificationCallback):
    """Writes down what it is told, and how much of it before the last image went in."""

    def __init__(self) -> None:
        self.told: list[ImageRecord] = []
        self.before_the_end = self.at_the_end = 0

    def on_image_finished(
        self, trainer: pl.Trainer, module: CertificationModule, record: ImageRecord
    ) -> None:
        self.told.append(record)

    def on_predict_batch_end(self, *arguments: object) -> None:
        self.before_the_end = len(self.told)

    def on_predict_end(self, *arguments: object) -> None:
        self.at_the_end = len(self.told)


def make_trainer(*callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=list(callbacks),
    )


def test_every_image_is_told_once_also_those_that_finish_after_the_last_one_went_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffsmooth.lit.certification.module.UNCHECKED", 1)
    listener, module = Listener(), make_module()
    make_trainer(listener).predict(module, return_predictions=False)
    assert sorted(record.index for record in listener.told) == SELECTION
    assert 0 < listener.before_the_end < listener.at_the_end == len(SELECTION)
    assert listener.told == module.records
    for record in listener.told:
        key, image = module.noise_key(record.index), module.images[record.index].image
        for stage, count, counts in (
            (0, 8, record.certificate.selection_counts),
            (1, 30, record.certificate.estimation_counts),
        ):
            noisy = image + 0.5 * draw_noise(key, count, (1, 32, 32), stage)
            votes = np.bincount(Linear()(noisy).argmax(dim=1), minlength=10)
            assert dict(counts) == {k: int(n) for k, n in enumerate(votes) if n}


@pytest.mark.filterwarnings("ignore:Total length of `SharedWork`")
def test_the_same_module_again_has_nothing_left_to_do() -> None:
    listener, module = Listener(), make_module()
    for _ in range(2):
        make_trainer(Preparation(), listener).predict(module, return_predictions=False)
    assert len(listener.told) == len(module.records) == len(SELECTION)


def test_an_image_that_cannot_be_read_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = ArrayImages.__getitem__

    def broken(self: ArrayImages, index: int) -> Sample:
        if index == 140:
            raise OSError("a bad sector")
        return item(self, index)

    monkeypatch.setattr(ArrayImages, "__getitem__", broken)
    listener, module = Listener(), make_module()
    make_trainer(listener).predict(module, return_predictions=False)
    (failed,) = (record for record in listener.told if record.error)
    assert (failed.index, failed.error) == (140, "OSError: a bad sector")
    assert len(listener.told) == len(SELECTION)
    monkeypatch.undo()
    make_trainer(listener).predict(module, return_predictions=False)
    assert [record.index for record in listener.told[len(SELECTION) :]] == [140]
    assert not any(record.error for record in module.records)


@pytest.mark.parametrize("in_flight", [1, 5])
def test_the_last_image_is_not_told_of_an_f_that_has_changed(in_flight: int) -> None:
    calls = 0

    def change(logits: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return logits if calls <= 20 else -logits  # the check before the first vote takes fewer

    listener = Listener()
    with pytest.raises(UserError, match="it changes as it is called"):
        make_trainer(listener).predict(make_module(Linear(change), in_flight))
    assert not listener.told


@pytest.mark.parametrize(
    ("error", "kept"), [(OutOfMemory("of something else"), 2), (NotFixed("it changes"), 0)]
)
def test_nothing_is_lost_to_another_error_than_that_f_has_changed(
    error: UserError, kept: int
) -> None:
    class Ends(CertificationCallback):
        def on_votes(self, trainer: pl.Trainer, module: CertificationModule) -> None:
            if len(module._unchecked) == 2:
                raise error

        def on_exception(self, *arguments: Any) -> None:
            outputs = SimpleNamespace(release=lambda: None)
            RunKeeper(outputs, None).on_exception(*arguments)  # type: ignore[arg-type]

    listener = Listener()
    with pytest.raises(type(error)):
        make_trainer(listener, Ends()).predict(make_module(in_flight=1))
    assert len(listener.told) == kept


def test_what_was_found_unchanged_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffsmooth.lit.certification.module.UNCHECKED", 1)
    calls = 0

    def change(logits: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return logits if calls <= 30 else -logits

    honest, changing = Listener(), Listener()
    make_trainer(honest).predict(make_module(in_flight=1))
    with pytest.raises(UserError, match="it changes as it is called"):
        make_trainer(changing).predict(make_module(Linear(change), in_flight=1))
    assert 0 < len(changing.told) < len(SELECTION)
    known = {record.index: record.certificate for record in honest.told}
    assert all(known[record.index] == record.certificate for record in changing.told)


OWN = """
import lightning.pytorch as pl
from diffsmooth.lit.certification import CertificationCallback
from test_certification import make_module

class Write(CertificationCallback):
    def on_image_finished(self, trainer, module, record):
        with open(f"rank{trainer.global_rank}.txt", "a") as file:
            print(record.index, record.certificate.estimation_counts, file=file)

if __name__ == "__main__":
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False,
                         enable_checkpointing=False, enable_progress_bar=False,
                         callbacks=[Write()])
    trainer.predict(make_module(), return_predictions=False)
"""


@pytest.mark.slow
def test_two_processes_of_a_readers_own_trainer_share_the_images(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    module = make_module()
    make_trainer().predict(module, return_predictions=False)
    expected = {f"{r.index} {r.certificate.estimation_counts}" for r in module.records}
    lines = [line for path in tmp_path.glob("rank?.txt") for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(expected)
