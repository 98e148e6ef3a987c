"""What train.py does where a config says nothing: logs, checkpoints; and a method of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from stripes import write_stripes

from diffsmooth.cli import lightning_cli, train
from diffsmooth.models import load_classifier
from diffsmooth.models.checkpoints.formats import read_checkpoint

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
OLD = """
trainer:
  logger:
    class_path: lightning.pytorch.loggers.TensorBoardLogger
    init_args: {save_dir: elsewhere, name: mine, version: "", default_hp_metric: false}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, enable_version_counter: false}
"""
OWN = """
trainer:
  logger:
    class_path: lightning.pytorch.loggers.TensorBoardLogger
    init_args: {save_dir: runs}
"""
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Starts train.py, up to the training itself."""

    def run(*words: str) -> pl.Trainer:
        found: list[pl.Trainer] = []
        keep: Any = lambda self, subcommand: found.append(self.trainer)  # noqa: E731
        monkeypatch.setattr(lightning_cli.TrainCLI, "_run_subcommand", keep)
        monkeypatch.chdir(tmp_path)
        train.main(["fit", *words, "--trainer.accelerator", "cpu"])
        return found[0]

    return run


def config(name: str) -> tuple[str, str]:
    return "-c", str(CONFIGS / f"{name}.yaml")


def monitors(trainer: pl.Trainer) -> list[str | None]:
    return [c.monitor for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]


def test_the_logs_are_called_as_the_config(
    begin: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    base = config("fashion_mnist_gaussian")
    assert begin(*base).log_dir == "logs/fashion_mnist_gaussian_0.25/"
    assert begin(*base, *config("fashion_mnist_clean")).log_dir == "logs/fashion_mnist_clean/"
    assert begin(*config("fashion_mnist_diffusion")).log_dir == "logs/fashion_mnist_diffusion/"
    assert begin(*base, "--name", "x").log_dir == "logs/x/"
    words = ["--trainer.logger.init_args.save_dir", "y", "--trainer.logger.init_args.name", "z"]
    assert begin(*base, *words).log_dir == "y/z/"
    without = begin("--model", "GaussianTraining")  # as ever: Lightning's own, numbered
    assert str(without.log_dir).endswith("lightning_logs/version_0")
    assert begin(*base, "--trainer.logger", "false").loggers == []
    (tmp_path / "old.yaml").write_text(OLD)
    old = begin(*base, "-c", str(tmp_path / "old.yaml"))
    assert old.log_dir == "elsewhere/mine/"
    again = begin("-c", str(tmp_path / "old.yaml"), *base, *config("fashion_mnist_clean"))
    assert again.log_dir == "elsewhere/fashion_mnist_clean/"  # said last, as ever
    (tmp_path / "own.yaml").write_text(OWN)
    own = begin("-c", str(tmp_path / "own.yaml"), "--model", "GaussianTraining")
    assert str(own.log_dir) == "runs/lightning_logs/version_0"  # Lightning's, not ours
    assert monitors(old) == [None]


def test_two_checkpoints_are_kept_where_images_are_held_out(
    begin: Callable[..., pl.Trainer],
) -> None:
    assert monitors(begin(*config("fashion_mnist_macer"))) == [None, "val/noisy_accuracy"]
    assert monitors(begin(*config("cifar10_macer"))) == [None]
    unet = ["--model", "DiffusionTraining"]
    assert monitors(begin(*unet)) == [None, "val/loss"]
    assert monitors(begin(*unet, "--trainer.limit_val_batches", "0")) == [None]
    assert monitors(begin(*unet, "--trainer.enable_checkpointing", "false")) == []


THEIRS = """
from torch.nn import functional as F
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses

class MyTraining(ClassifierTraining):
    def losses(self, views, labels, generator):
        logits = self.classifier(self.noisy_copies(views, 1, generator))
        return Losses(F.multi_margin_loss(logits, labels, reduction="none"), logits)
"""


def test_a_method_of_another_package_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "mod.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = write_stripes(tmp_path / "data")
    train.main([
        "fit", "--model", "pkg.mod.MyTraining", "--model.arch", "cifar_resnet8", "--name", "theirs",
        "--model.sigma", "0.125", "--data.root", str(data), "--data.validation_images", "32",
        "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1",
        "--trainer.limit_train_batches", "1", "--trainer.enable_progress_bar", "false",
    ])  # fmt: skip
    last = tmp_path / "logs" / "theirs" / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)  # what certify.py needs to know
    assert (checkpoint.metadata.arch, checkpoint.metadata.sigma) == ("cifar_resnet8", 0.125)
    from pkg.mod import MyTraining

    loaded = MyTraining.load_from_checkpoint(last)
    assert loaded.hparams.sigma == 0.125
    assert load_classifier(last).state_dict().keys() == loaded.classifier.state_dict().keys()


@pytest.mark.slow
def test_an_earlier_training_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "logs" / "own" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"hours of work")
    (tmp_path / "own.yaml").write_text("model: {class_path: GaussianTraining}\n")
    words = ["-c", "own.yaml", "--data.root", str(write_stripes(tmp_path / "data"))]
    words += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    words += ["--data.validation_images", "32", "--trainer.max_epochs", "1"]
    with pytest.raises(SystemExit) as stopped:
        train.main(["fit", *words])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "own/checkpoints/last.ckpt is of an earlier training" in error
    assert "--ckpt_path last goes on from it, another --name leaves it" in error
    train.main(["fit", *words, "--trainer.fast_dev_run", "true"])  # writes nothing
    train.main(["fit", *words, "--name", "other", "--trainer.limit_train_batches", "1"])
    assert last.read_bytes() == b"hours of work"
    assert (tmp_path / "logs" / "other" / "checkpoints" / "last.ckpt").is_file()
