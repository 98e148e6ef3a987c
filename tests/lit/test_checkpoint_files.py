"""Checkpoints of a training: whole at every moment, found again, resumed by their own options."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from stripes import make_data, make_trainer

from diffsmooth.lit.training import (
    ConsistencyTraining,
    GaussianTraining,
    MacerTraining,
    SmoothAdvTraining,
    SmoothMixTraining,
    StabilityTraining,
)
from diffsmooth.lit.training.checkpoint_files import (
    WholeCheckpointIO,
    default_checkpoints,
    last_checkpoint,
    read_trained,
    remove_leftovers,
)
from diffsmooth.lit.training.learning_rate import LearningRate
from diffsmooth.lit.training.module import SETTINGS_KEY, TrainingModule
from diffsmooth.models.checkpoints.saving import save_whole
from diffsmooth.stats.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:.*exists and is not",
)


def fit(module: TrainingModule, root: Path, epochs: int = 1, **kwargs: Any) -> Path:
    """Trains on the stripes; the last checkpoint."""
    folder, resumed = root.parent / "out", kwargs.pop("ckpt_path", None)
    held_out = kwargs.pop("validation_images", 32)
    saving = ModelCheckpoint(folder, save_last=kwargs.pop("save_last", True))
    data = make_data(root)
    data.validation_images = held_out
    trainer = make_trainer(folder, epochs, callbacks=[saving], limit_train_batches=1, **kwargs)
    trainer.fit(module, datamodule=data, ckpt_path=resumed)
    return folder / "last.ckpt"


def gaussian(**kwargs: Any) -> GaussianTraining:
    return GaussianTraining("cifar_resnet8", **kwargs)


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def broken(content: Any, file: Any, **_: Any) -> None:
        file.write(b"half of it")
        raise trouble

    monkeypatch.setattr(torch, "save", broken)
    monkeypatch.setenv("TMPDIR", "/dev/shm")  # another file system, for what would copy from there
    kind = UserError if isinstance(trouble, OSError) else KeyboardInterrupt
    with pytest.raises(kind) as raised:
        WholeCheckpointIO().save_checkpoint({"epoch": 2}, path)
    if kind is UserError:
        assert str(raised.value).startswith(f"{path}: cannot be written (No space left")
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_is_told_apart_from_a_bug_of_torchs_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr("builtins.open", lambda *_: full)
    with pytest.raises(UserError, match=r"weights\.pt: cannot be written \(No space left"):
        save_whole(tmp_path / "weights.pt", {"w": torch.zeros(100_000)})
    monkeypatch.undo()
    monkeypatch.setattr(torch, "save", lambda *_, **__: [][0])  # a bug
    with pytest.raises(IndexError):
        save_whole(tmp_path / "weights.pt", {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("epochs", "is_lost", "found"), [(3, False, 2), (4, False, 2), (4, True, 3), (3, True, None)]
)
def test_who_goes_on_keeps_the_best_of_before(
    root: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, is_lost: bool, found: int | None
) -> None:
    """An accuracy that falls after its third epoch; its best.ckpt may not have come along."""
    measured = {0: 0.15, 1: 0.575, 2: 0.9, 3: 0.75}

    def measure(module: GaussianTraining, batch: Any, index: int) -> None:
        module.log("val/noisy_accuracy", measured[module.current_epoch], batch_size=1)

    monkeypatch.setattr(GaussianTraining, "validation_step", measure)

    def train(epochs: int, resumed: Path | None) -> ModelCheckpoint:
        callbacks = default_checkpoints(("noisy_accuracy",), validated=True)
        data = make_data(root)
        data.validation_images = 32
        trainer = make_trainer(
            root.parent / "out", epochs, callbacks=callbacks, limit_train_batches=1
        )
        trainer.fit(gaussian(), datamodule=data, ckpt_path=resumed)
        (best,) = (c for c in callbacks if c.monitor)
        return best

    best = train(3, None)
    path = Path(best.best_model_path)
    if is_lost:
        path.unlink()
    best = train(epochs, path.parent / "last.ckpt")
    if found is None:
        assert (best.best_model_path, best.best_model_score, path.exists()) == ("", None, False)
        return
    assert best.best_model_score == pytest.approx(measured[found])
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == found


def test_every_training_writes_whole_files_and_other_plugins_stay(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []
    monkeypatch.setattr(
        "diffsmooth.lit.training.checkpoint_files.save_whole",
        lambda path, content: saved.append(path),
    )
    last = fit(gaussian(), root)
    assert saved[-1] == last

    class Own(TorchCheckpointIO):
        pass

    fit(gaussian(), root, plugins=[Own()])
    assert last.is_file()  # not by ours
    with pytest.raises(UserError, match="AsyncCheckpointIO leaves torn checkpoints"):
        fit(gaussian(), root, plugins=[AsyncCheckpointIO()])
    with pytest.raises(UserError, match=r"save_last: link removes last\.ckpt before"):
        fit(gaussian(), root, save_last="link")


def test_old_leftovers_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for name, age in ((".diffsmooth-1", 7200), (".diffsmooth-2", 60), ("last.ckpt", 7200)):
        (tmp_path / name).touch()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".diffsmooth-2", "last.ckpt"]


def test_a_torn_checkpoint_is_named_with_the_newest_whole_one(root: Path) -> None:
    last = fit(gaussian(), root, epochs=2)
    (whole,) = last.parent.glob("epoch=1*.ckpt")
    last.write_bytes(last.read_bytes()[:100_000])
    assert read_trained(whole).resumable
    for name, age in (("older.ckpt", 100), ("newest_but_torn.ckpt", -100)):
        (last.parent / name).write_bytes(whole.read_bytes()[: None if age > 0 else 1000])
        then = whole.stat().st_mtime - age
        os.utime(last.parent / name, (then, then))
    with pytest.raises(UserError) as raised:
        read_trained(last)
    assert str(raised.value).startswith(f"{last}: not a readable checkpoint")
    assert str(raised.value).endswith(f"the newest whole one beside it is {whole}")
    with pytest.raises(UserError, match=r"nowhere\.ckpt: no such checkpoint"):
        read_trained("nowhere.ckpt")


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("optimizer_states", []),
        ("lr_schedulers", None),
        ("loops", None),
        ("loops", {}),
        ("pytorch-lightning_version", None),
    ],
)
def test_a_part_of_a_trainings_state_is_no_state(root: Path, part: str, left: object) -> None:
    last = fit(gaussian(), root)
    content = torch.load(last, weights_only=True)
    content.pop(part)
    torch.save(content if left is None else {**content, part: left}, last)
    assert not read_trained(last).resumable


def test_the_last_checkpoint_must_be_there(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 1, callbacks=[ModelCheckpoint(tmp_path / "out")])
    with pytest.raises(UserError, match=r"no last\.ckpt under .*out yet"):
        last_checkpoint(trainer)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.ckpt").touch()
    assert last_checkpoint(trainer) == tmp_path / "out" / "last.ckpt"
    with pytest.raises(UserError, match="no ModelCheckpoint"):
        last_checkpoint(make_trainer(tmp_path, 1, enable_checkpointing=False))


def test_other_options_are_not_resumed(root: Path) -> None:
    last = fit(gaussian(), root)
    for change, message in (
        ({"seed": 1}, "was trained with seed 0, not 1"),
        ({"flip": False}, "was trained with flip True, not False"),
        ({"crop_padding": 2}, "was trained with crop_padding 4, not 2"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.2)}, r"optimizer\.lr 0\.1, not 0\.2"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            fit(gaussian(**change), root, epochs=2, ckpt_path=last)
        assert str(raised.value).startswith(f"{last}: ")
    with pytest.raises(UserError, match=r"was trained with data\.validation_images 32, not 16"):
        fit(gaussian(), root, epochs=2, ckpt_path=last, validation_images=16)
    content = torch.load(last, weights_only=True)
    del content[SETTINGS_KEY], content["ImageDataModule"]  # as older versions wrote it
    torch.save(content, last)
    fit(gaussian(), root, epochs=2, ckpt_path=last)


def test_the_settings_are_those_of_all_classes_of_the_method() -> None:
    attacked = SmoothAdvTraining(arch="cifar_resnet8", epsilon=0.125).settings()
    assert {attacked[name] for name in ("epsilon", "attack", "m_train")} == {0.125, "pgd", 1}
    assert (attacked["seed"], attacked["optimizer.lr"]) == (0, 0.1)
    assert (attacked["learning_rate.step_epochs"], attacked["optimizer.class"]) == (30, "SGD")
    assert StabilityTraining(arch="cifar_resnet8", weight=3.0).settings()["weight"] == 3.0


@pytest.mark.parametrize(("before", "after"), [(None, 0.25), (0.25, None)])
def test_an_option_that_is_left_out_is_a_setting_too(
    root: Path, before: float | None, after: float | None
) -> None:
    """A training with an attack is not resumed without, nor the other way round."""
    last = fit(ConsistencyTraining(arch="cifar_resnet8", epsilon=before, steps=1), root)
    resumed = ConsistencyTraining(arch="cifar_resnet8", epsilon=after, steps=1)
    with pytest.raises(UserError, match=f"was trained with epsilon {before}, not {after}"):
        fit(resumed, root, epochs=2, ckpt_path=last)


@pytest.mark.parametrize(
    ("method", "name", "value", "before"),
    [
        (ConsistencyTraining, "epsilon", 0.25, None),
        (MacerTraining, "deferred_epochs", 2, 0),
        (SmoothMixTraining, "mix_step", 1, 0),
    ],
)
def test_an_option_that_an_older_version_did_not_have_is_as_it_did(
    root: Path, method: type[TrainingModule], name: str, value: Any, before: Any
) -> None:
    last = fit(method(arch="cifar_resnet8"), root)  # type: ignore[call-arg]
    content = torch.load(last, weights_only=True)
    del content[SETTINGS_KEY][name]
    torch.save(content, last)
    with pytest.raises(UserError, match=f"was trained with {name} {before!r}, not {value!r}"):
        fit(method(arch="cifar_resnet8", **{name: value}), root, epochs=2, ckpt_path=last)
    fit(method(arch="cifar_resnet8"), root, epochs=2, ckpt_path=last)  # type: ignore[call-arg]


def test_milestones_are_a_setting_as_a_list_too(root: Path) -> None:
    def module(*milestones: int) -> GaussianTraining:
        rate = LearningRate("milestones", milestones=list(milestones))  # type: ignore[arg-type]
        return gaussian(learning_rate=rate)

    last = fit(module(1, 2), root)
    with pytest.raises(UserError, match=r"learning_rate\.milestones \(1, 2\), not \(1, 3\)"):
        fit(module(1, 3), root, epochs=2, ckpt_path=last)
