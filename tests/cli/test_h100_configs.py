"""The configs for one H100, each tried at tiny size through train.py."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from diffsmooth.cli import lightning_cli, train
from diffsmooth.lit.training import compiling
from diffsmooth.models.checkpoints.formats import read_checkpoint

CONFIGS = sorted((Path(__file__).parents[2] / "configs/train").glob("cifar10_h100_*.yaml"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 14), ("test", 4)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(count) % 10)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem.removeprefix("cifar10_h100_"))
def test_it_trains_at_tiny_size(path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    monkeypatch.setattr(lightning_cli, "check_compile", lambda *_: None)  # of torch's own compiler
    small = ["--model.init_args.arch", "cifar_resnet8"]
    if "diffusion" in path.stem:
        small = ["--model.init_args.overrides.model_channels", "32",
                 "--model.init_args.overrides.num_res_blocks", "1"]  # fmt: skip
    train.main([
        "fit", "-c", str(path), *small, "--data.root", str(data), "--data.batch_size", "4",
        "--data.validation_images", "4", "--data.on_device", "true",
        "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2",
        "--trainer.check_val_every_n_epoch", "1",
        "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
    ])  # fmt: skip
    (last,) = data.glob("logs/*/checkpoints/last.ckpt")
    checkpoint = read_checkpoint(last)
    assert checkpoint.resumable
    assert not any("_orig_mod" in key for key in checkpoint.state_dict)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem.removeprefix("cifar10_h100_"))
def test_its_header_says_how_many_images_it_sees(path: Path) -> None:
    said = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    config = yaml.safe_load(path.read_text())
    epochs, rows = config["trainer"]["max_epochs"], config["data"]["batch_size"]
    batches = (50_000 - config["data"]["validation_images"]) // rows
    assert f"{epochs} epochs of {batches} batches of {rows}" in said
    (millions,) = re.findall(r"sees ([\d.]+) million images", said)
    assert float(millions) == round(epochs * batches * rows / 1e6, 1)
    # The last epoch is validated, so that its weights are kept.
    assert epochs % config["trainer"]["check_val_every_n_epoch"] == 0
    assert config["trainer"]["max_time"] == "00:00:06:00"
