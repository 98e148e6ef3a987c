"""The other commands, and every config."""

import re
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import TINY_UNET

from diffsmooth import __version__
from diffsmooth.cli import export, lightning_cli, main, train
from diffsmooth.cli.errors import OneLineParser, underscored
from diffsmooth.cli.options import add_options
from diffsmooth.models import build_unet, load_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.words import USUAL_BATCH
from diffsmooth.pipeline.specification import CertifyOptions
from diffsmooth.pipeline.train_checks import check_numbers

REPOSITORY = Path(__file__).parents[2]


def certify_options(*words: str) -> CertifyOptions:
    parser = OneLineParser()
    add_options(parser, CertifyOptions, with_config=True)
    return CertifyOptions.from_namespace(parser.parse_args(list(words)))


def test_the_seeds_line_parses_word_for_word() -> None:
    line = "cifar10 CHECKPOINT 0.50 OUT.txt --local_noise_sd 0.25 --m 5"
    options = certify_options(*line.split())
    assert (options.dataset, options.classifier) == ("cifar10", "CHECKPOINT")
    assert (options.sigma, options.outfile) == (0.5, "OUT.txt")
    # The reference's defaults; batch and skip: see test_batch_choice.py and test_certify.py.
    assert (options.n0, options.n, options.alpha) == (100, 10_000, 0.001)
    assert (options.batch, options.skip, options.max, options.split) == ("auto", None, -1, "test")
    assert USUAL_BATCH == {"certify": 50, "predict": 1000, "attack": 50}
    assert (options.m, options.local_noise_sd) == (5, 0.25)
    assert (options.seed, options.local_seed) == (0, 42)


def test_every_published_option_in_both_spellings() -> None:
    line = (
        "cifar10 C 0.5 O --batch 1 --skip 2 --max 3 --split train --N0 4 --N 5 --alpha 0.6"
        " --local-noise-sd 0.7 --m 8 --data-root d --devices 8"
    )
    options = certify_options(*line.split())
    assert (options.batch, options.skip, options.max, options.split) == (1, 2, 3, "train")
    assert (options.n0, options.n, options.alpha, options.m) == (4, 5, 0.6, 8)
    assert (options.local_noise_sd, options.data_root, options.devices) == (0.7, "d", 8)
    assert underscored("--a-b=c-d") == "--a_b=c-d"
    assert underscored("a-b") == "a-b"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs/certify").glob("*.yaml")), ids=str)
def test_every_certify_config_parses(path: Path) -> None:
    certify_options("--config", str(path))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs/train").glob("*.yaml")), ids=str)
def test_every_train_config_parses(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path]
    base = re.match(r"# Laid over (\S+\.yaml)", path.read_text())
    if base:
        files.insert(0, path.parent / base.group(1))
    words = [word for file in files for word in ("-c", str(file))]
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", *words, "--print_config"])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code in (0, None)
    assert "class_path: diffsmooth.lit.training." in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.init_args.sigma", "-1"], "sigma must be in 0 .. 1e+06, got -1"),
        (["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        (["--data.dataset", "minst"], "unknown dataset 'minst'"),
        ([], "validate needs --ckpt_path FILE"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--ckpt_path", str(REPOSITORY / "setup.cfg")], "setup.cfg: not a readable checkpoint"),
        (["--trainer.speed", "9"], "speed"),
    ],
)
def test_training_mistakes_are_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = str(REPOSITORY / "configs/train/fashion_mnist_gaussian.yaml")
    quiet = ["--trainer.logger", "false", "--trainer.callbacks", "null"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "validate", "-c", config, *quiet, *words])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("train.py: error: ")
    assert message in line


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ckpt_path", "last"], "--ckpt_path last: no last.ckpt under"),
        (["--ckpt_path", "best"], "--ckpt_path best is known within a training only"),
        (["--model.init_args.sigma", "1e300"], "sigma must be in 0 .. 1e+06, got 1e+300"),
        (["--model.init_args.input_layer", "[1]"], "input_layer"),
        (["--model.init_args.optimizer.init_args.lr", "-1"], "optimizer: Invalid learning rate"),
        (
            ["--model.init_args.optimizer.init_args.fused", "true",
             "--trainer.gradient_clip_val", "1", "--trainer.precision", "bf16-mixed"],
            "--trainer.gradient_clip_val 1 is not for a fused SGD",
        ),
        (
            ["--trainer.callbacks+", "lightning.pytorch.callbacks.EarlyStopping",
             "--trainer.callbacks.monitor", "val/acc"],
            "EarlyStopping's monitor 'val/acc' is nothing that is measured: known are val/loss,",
        ),
        (["--trainer.accelerator", "nope"], "invalid accelerator name"),
        (["--model", "diffsmooth.lit.training.Nope"], "diffsmooth.lit.training.Nope"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
        (["--trainer.devices", "10000"], "devices must be at most"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches must be at least 1"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch must be at least 1"),
        (["--trainer.val_check_interval", "0"], "val_check_interval must be above 0, got 0"),
        (["--trainer.gradient_clip_val", "-1"], "gradient_clip_val must be at least 0, got -1"),
        (["--trainer.gradient_clip_val", ".nan"], "gradient_clip_val must be at least 0, got nan"),
    ],
)  # fmt: skip
def test_mistakes_of_a_training_are_one_line_before_anything_is_written(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = str(REPOSITORY / "configs/train/fashion_mnist_gaussian.yaml")
    sgd = ["--model.init_args.optimizer", "torch.optim.SGD"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train.main(["fit", "-c", config, "--trainer.accelerator", "cpu", *sgd, *words])
    assert stopped.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("train.py: error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_an_interval_may_be_a_time(tmp_path: Path) -> None:
    check_numbers(
        pl.Trainer(
            accelerator="cpu", logger=False, val_check_interval="00:00:10:00",
            num_sanity_val_steps=-1, default_root_dir=tmp_path,
        )
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trainer", ["null", "[]", "3"])
def test_a_trainer_that_is_no_options_is_one_line(
    trainer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.yaml").write_text(f"trainer: {trainer}")
    config = str(REPOSITORY / "configs/train/fashion_mnist_gaussian.yaml")
    with pytest.raises(SystemExit) as stopped:
        train.main(["fit", "-c", config, "-c", str(tmp_path / "t.yaml")])
    assert stopped.value.code == 2
    assert "trainer must be options by their names" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bug", ["shapes", "index", "type"])
def test_a_bug_in_a_training_keeps_its_traceback(
    bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        if bug == "shapes":
            np.ones(2) + np.ones(3)
        if bug == "index":
            [][0]
        int([])  # type: ignore[call-overload]

    monkeypatch.setattr(lightning_cli, "check_optimizer", broken)
    monkeypatch.chdir(tmp_path)
    config = str(REPOSITORY / "configs/train/fashion_mnist_gaussian.yaml")
    with pytest.raises((ValueError, IndexError, TypeError)):
        train.main(["fit", "-c", config, "--trainer.accelerator", "cpu"])


def test_export_copies_the_weights(
    classifier_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "c.pt"
    monkeypatch.setattr(sys, "argv", ["export", str(classifier_file), str(out)])
    export.main()
    assert "classifier" in capsys.readouterr().out
    assert read_checkpoint(out).metadata == read_checkpoint(classifier_file).metadata


def test_plain_export_of_a_unet_is_openais_form(
    unet_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "plain.pt"
    export.main([str(unet_file), str(out), "--plain"])
    assert capsys.readouterr().err == (
        "diffsmooth export: note: plain, it does not say dataset, preset, overrides, max_sigma; "
        "certify.py cannot use it: no published architecture\n"
    )
    content = torch.load(out, weights_only=True)
    build_unet("small-gray32", **TINY_UNET).load_state_dict(content)

    # A known architecture is told by the shapes, whatever the dropout that it was trained with.
    metadata = CheckpointMetadata("unet", preset="small-gray32", overrides={"dropout": 0.3})
    published = tmp_path / "published.pt"
    write_checkpoint(published, metadata, build_unet("small-gray32").state_dict())
    assert load_unet(published).config.dropout == 0.3
    export.main([str(published), str(out), "--plain"])
    assert "not say overrides\n" in capsys.readouterr().err
    assert read_checkpoint(out).metadata == CheckpointMetadata("unet", preset="small-gray32")
    monkeypatch.chdir(tmp_path)
    export.main(["published.pt", "again.pt"])
    assert read_checkpoint("again.pt").metadata == metadata


def test_export_never_overwrites_its_input(
    unet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link.pt"
    link.symlink_to(unet_file)
    folder = tmp_path / "folder"
    folder.mkdir()
    for out, message in (
        (unet_file, "is the checkpoint itself"),
        (link, "is the checkpoint itself"),
        (folder, "is a folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            export.main([str(unet_file), str(out)])
        assert stopped.value.code == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link.pt"]


@pytest.mark.filterwarnings("ignore")
def test_a_diverged_training_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rng: np.random.Generator,
) -> None:
    for split in ("train", "test"):
        images = rng.integers(0, 256, (16, 28, 28), np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(16) % 10)
    config = str(REPOSITORY / "configs/train/fashion_mnist_gaussian.yaml")
    words = "--trainer.logger false --trainer.callbacks null --trainer.enable_progress_bar false"
    words += f" --data.root {tmp_path} --data.batch_size 4 --data.validation_images 4"
    words += " --model.init_args.arch cifar_resnet8 --model.init_args.optimizer torch.optim.SGD"
    words += " --model.init_args.optimizer.init_args.lr 1.0e38"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "-c", config, *words.split()])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("train.py: error: the training has diverged by step 3: the loss or")


def test_the_console_script_lists_its_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["diffsmooth"])
    main.main()
    out = capsys.readouterr().out
    assert all(name in out for name in main.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["diffsmooth", "--version"])
    main.main()
    assert capsys.readouterr().out.strip() == __version__
    monkeypatch.setattr(sys, "argv", ["diffsmooth", "certfy"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert "unknown command 'certfy': known are demo, train," in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(main.COMMANDS) - {"train"}))
def test_every_command_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["diffsmooth", name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 0
    assert f"usage: diffsmooth {name}" in capsys.readouterr().out
