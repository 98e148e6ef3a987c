"""What train.py refuses before it trains or evaluates, in one line; and what it leaves alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from diffsmooth.cli import train

pytestmark = pytest.mark.filterwarnings("ignore")
Fit = Callable[..., str]


def write(folder: Path, classes: int = 2, side: int = 8, **names: list[str]) -> Path:
    """A data set of grey images; `names` are the classes' of a split."""
    folder.mkdir()
    for split in ("train", "test"):
        labels = np.arange(24) % classes
        images = np.repeat(100 * labels, side * side).reshape(24, side, side).astype(np.uint8)
        given = {"class_names": names[split]} if split in names else {}
        np.savez(folder / f"{split}.npz", images=images, labels=labels, **given)
    return folder


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fit:
    """Runs train.py on a data set; the line of a refusal, or "" where there is none."""

    def run(data: Path, *words: str, command: str = "fit", method: str = "GaussianTraining") -> str:
        monkeypatch.chdir(tmp_path)
        of_classifiers = [] if method == "DiffusionTraining" else [
            "--model.init_args.arch", "cifar_resnet8", "--model.init_args.crop_padding", "0",
            "--model.init_args.input_layer", "none",
        ]  # fmt: skip
        capsys.readouterr()
        code: object = 0
        try:
            train.main([
                command, "--model", method, *of_classifiers, "--data.dataset", str(data),
                "--data.batch_size", "8", "--data.validation_images", "8", "--trainer.accelerator",
                "cpu", "--trainer.enable_progress_bar", "false",
                *(["--trainer.max_epochs", "1"] if command == "fit" else []), *words,
            ])  # fmt: skip
        except SystemExit as stopped:
            code = stopped.code
        if code == 0:
            return ""
        assert code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_the_users_config_is_not_replaced(call: Fit, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# by hand\n")
    assert call(write(tmp_path / "d"), "--trainer.logger", "false") == ""
    assert (tmp_path / "config.yaml").read_text() == "# by hand\n"


def test_another_trainings_checkpoints_are_not_replaced(call: Fit, tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    for name in ("a", "b"):
        assert call(data, "--name", name) == ""
    last = "logs/a/checkpoints/last.ckpt"
    line = call(data, "--name", "b", "--ckpt_path", last, "--trainer.max_epochs", "2")
    assert (
        "logs/b/checkpoints/last.ckpt is of an earlier training, and would be overwritten" in line
    )
    for name in ("a", "c"):  # its own, and a new one
        assert call(data, "--name", name, "--ckpt_path", last, "--trainer.max_epochs", "2") == ""


def test_an_evaluation_is_of_the_network_that_the_checkpoint_tells(
    call: Fit, tmp_path: Path
) -> None:
    named = {"train": ["cat", "dog"], "test": ["cat", "dog"]}
    data = write(tmp_path / "d", train=named["train"], test=named["test"])
    assert call(data, "--name", "a") == ""
    last = ("--ckpt_path", str(tmp_path / "logs/a/checkpoints/last.ckpt"))
    assert call(data, *last, command="test") == ""
    line = call(data, *last, "--model.init_args.input_layer", "9,0.05", command="test")
    assert "was trained behind input layer none, not 9,0.05: --model.init_args.input_layer" in line
    swapped = write(tmp_path / "s", train=["dog", "cat"], test=["dog", "cat"])
    line = call(swapped, *last, command="test")
    assert "label 0 is 'cat', of s 'dog': the classes are in another order" in line
    assert "another order" in call(swapped, *last, command="validate")


def test_a_u_net_is_evaluated_as_it_was_built(call: Fit, tmp_path: Path) -> None:
    data = write(tmp_path / "d")
    words = [
        "--model.init_args.preset", "small-gray32", "--model.init_args.overrides",
        "{model_channels: 32, num_res_blocks: 1, channel_mult: [1], attention_resolutions: []}",
        "--model.init_args.psnr_sigmas", "[0.5]", "--model.init_args.sample_steps", "1",
    ]  # fmt: skip
    assert call(data, *words, "--name", "u", method="DiffusionTraining") == ""
    last = ("--ckpt_path", str(tmp_path / "logs/u/checkpoints/last.ckpt"))
    assert call(data, *words, *last, command="test", method="DiffusionTraining") == ""
    line = call(
        data,
        *last,
        command="test",
        method="DiffusionTraining",
    )
    assert ": --model.init_args.preset and .overrides say which one" in line


def test_splits_of_other_classes_are_refused(call: Fit, tmp_path: Path) -> None:
    data = write(tmp_path / "order", train=["cat", "dog"], test=["dog", "cat"])
    line = call(data, "--data.validation_images", "0")
    assert "test images: label 0 is 'dog', in the training images 'cat'" in line
    data = write(tmp_path / "more")
    with np.load(data / "test.npz") as file:
        images = file["images"]
    np.savez(data / "test.npz", images=images, labels=np.arange(24) % 3)
    line = call(data, "--data.validation_images", "0")
    assert "test images: label 2, but the training images have 2 classes" in line
    line = call(write(tmp_path / "one", classes=1))
    assert "one has 1 class: two at least" in line


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_a_precision_that_rounds_the_noise_is_refused(
    call: Fit, tmp_path: Path, precision: str
) -> None:
    line = call(write(tmp_path / "d"), "--trainer.precision", precision)
    assert f"precision {precision} would round noise and weights: take 32-true" in line


def test_images_that_a_network_cannot_take_are_refused(call: Fit, tmp_path: Path) -> None:
    data = write(tmp_path / "d", side=8)
    line = call(data, "--model.init_args.arch", "inception_v3")
    assert "inception_v3: cannot take images of 1 x 8 x 8" in line
    line = call(data, "--model.init_args.arch", "resnet10t.nosuch")
    assert "architecture resnet10t.nosuch: timm does not make it" in line
    line = call(write(tmp_path / "odd", side=30), method="DiffusionTraining")
    assert "takes images whose sides are multiples of" in line
    assert "--pad" not in line


def test_a_seed_that_torch_cannot_take_is_refused(call: Fit, tmp_path: Path) -> None:
    line = call(write(tmp_path / "d"), "--data.seed", str(2**64))
    assert f"seed must be below {2**63}, got {2**64}" in line


def test_a_long_name_of_a_data_set_trains_to_a_checkpoint_that_is_read(
    call: Fit, tmp_path: Path
) -> None:
    data = write(tmp_path / ("d" * 210))
    assert call(data, "--name", "a") == ""
    last = ("--ckpt_path", str(tmp_path / "logs/a/checkpoints/last.ckpt"))
    assert call(data, "--name", "a", *last, "--trainer.max_epochs", "2") == ""
    stored = torch.load(last[1], weights_only=True)
    assert stored["global_step"] == 4
