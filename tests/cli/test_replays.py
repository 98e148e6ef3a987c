"""`diffsmooth verify --replay` of runs on pictures, behind other networks, and of old manifests."""

from pathlib import Path

import adopted
import numpy as np
import pytest
import torch
from pictures import coloured
from PIL import Image
from torch import nn

import diffsmooth
from diffsmooth import FixedSampleSize, SmoothedClassifier
from diffsmooth.cli import attack, certify, verify
from diffsmooth.models import build_classifier
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.runs.manifest import read_manifest, write_manifest
from diffsmooth.whole_file import file_sha256

STORED = Path(__file__).parents[1] / "runs"


def run(out: Path, *words: str) -> None:
    certify.main([
        *words, "--sigma", "0.50", "--outfile", str(out), "--m", "1", "--local_noise_sd", "0",
        "--batch", "16", "--logdir", str(out.parent / "logs"), "--accelerator", "cpu",
        "--no_sanity_check", "--threads", "1", "--compile", "false",
    ])  # fmt: skip


def answer(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    return answer_of(out, capsys, "--replay", "2", "--seed", "0", *words)


def answer_of(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    verify.main([str(out), *words])
    return capsys.readouterr().out


def test_pictures_in_folders_behind_a_diffusers_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
        attention_head_dim=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "unet")
    metadata = CheckpointMetadata(
        "classifier", arch="cifar_resnet8", input_layer="none", image_shape=[3, 16, 16],
        class_names=["a", "b"], sigma=0.25,
    )  # fmt: skip
    model = build_classifier("cifar_resnet8", 2, dataset="cifar10", input_layer="none")
    write_checkpoint(tmp_path / "c.pt", metadata, model.state_dict())
    for seed in range(6):
        folder = tmp_path / "pictures" / "test" / "ab"[seed % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coloured(20 + seed, 24, seed).save(folder / f"{seed}.png")
    out = tmp_path / "o.txt"
    sized = ("--image_size", "16", "--exif", "ignore")
    run(
        out, str(tmp_path / "pictures"), "--classifier", str(tmp_path / "c.pt"), "--diffusion",
        str(tmp_path / "unet"), "--skip", "1", "--N0", "4", "--N", "12", *sized,
    )  # fmt: skip
    told = "2 images voted again (seed 0): none of 32 votes differ"
    assert told in answer(out, capsys)  # the manifest says how the files became images
    manifest = read_manifest(tmp_path / "o.manifest.json")
    assert manifest is not None
    older = {k: v for k, v in manifest.context.items() if k not in ("image_size", "exif")}
    write_manifest(manifest._replace(context=older))  # as versions 0.1 and 0.2 wrote it
    assert told in answer(out, capsys, "--exif", "ignore")
    attack.main([
        str(out), str(tmp_path / "attack.txt"), "--max_images", "1", "--budgets", "1", "--methods",
        "pgd", "--steps", "1", "--n", "12", "--logdir", str(tmp_path / "logs"),
        "--accelerator", "cpu", "--threads", "1",
    ])  # fmt: skip


@pytest.mark.parametrize("depth", [8, 16])
def test_pictures_of_one_size_of_an_older_run_are_not_resized(
    depth: int, classifier_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(4):
        folder = tmp_path / "pictures" / f"{seed % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(seed).integers(0, 2**depth, (28, 28))
        Image.fromarray(grey.astype(f"uint{depth}")).save(folder / f"{seed}.png")
    out = tmp_path / "o.txt"
    run(
        out, str(tmp_path / "pictures"), "--classifier", f"{classifier_file}", "--purifier", "none",
        "--N0", "4", "--N", "12",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "o.manifest.json")
    assert manifest is not None
    assert manifest.context["image_size"] is None
    older = {k: v for k, v in manifest.context.items() if k != "image_size"}
    write_manifest(manifest._replace(context=older))
    assert "2 images voted again (seed 0): none of" in answer(out, capsys)


def test_a_size_and_a_word_that_no_run_can_have_are_not_believed(
    classifier_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.txt"
    run(
        out, "fashion_mnist_sample", "--classifier", f"{classifier_file}", "--purifier", "none",
        "--N0", "4", "--N", "12", "--skip", "500",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "o.manifest.json")
    assert manifest is not None
    for name, value in [("image_size", "28"), ("image_size", True), ("image_size", 0),
                        ("exif", "turn"), ("weights", 3)]:  # fmt: skip
        write_manifest(manifest._replace(context={**manifest.context, name: value}))
        with pytest.raises(SystemExit) as stopped:
            answer(out, capsys)
        assert stopped.value.code == 2
        assert f"{name} must be" in capsys.readouterr().err


def test_the_set_of_weights_is_the_runs(
    classifier_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(classifier_file, weights_only=True)
    averaged = {
        k: v * 0.9 if v.is_floating_point() else v for k, v in content["state_dict"].items()
    }
    sets = {"state_dict": content["state_dict"], "state_dict_ema": averaged}
    torch.save(sets, tmp_path / "both.pt")
    out = tmp_path / "o.txt"
    run(
        out, "fashion_mnist_sample", "--classifier", str(tmp_path / "both.pt"), "--purifier",
        "none", "--N0", "4", "--N", "12", "--skip", "500", "--weights", "raw", "--arch",
        "cifar_resnet8", "--normalize", "standard",
    )  # fmt: skip
    assert "2 images voted again (seed 0): none of" in answer(out, capsys)


def test_a_run_made_from_python_says_at_once_that_it_is_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    g = SmoothedClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), num_classes=2, image_shape=(3, 2, 2)
    )
    diffsmooth.certify(
        g, torch.zeros(2, 3, 2, 2), [0, 1], plan=FixedSampleSize(4, 8), journal=tmp_path / "o",
        progress=False,
    )  # fmt: skip
    assert "the table follows from the votes" in answer_of(tmp_path / "o.txt", capsys)
    words = {verify: ["--replay", "1"], attack: [str(tmp_path / "attack.txt")]}
    for command, more in words.items():
        with pytest.raises(SystemExit) as stopped:
            command.main([str(tmp_path / "o.txt"), *more])
        assert stopped.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "was certified from Python" in line


@pytest.mark.parametrize("version", ["0_1", "0_2"])
def test_manifests_of_older_versions(
    version: str,
    tmp_path: Path,
    classifier_file: Path,
    unet_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "o.txt"
    words = ["fashion_mnist_sample", "--classifier", str(classifier_file)]
    if version == "0_1":
        stored = STORED / "version_0_1" / "o.manifest.json"
        adopted.adopt(stored, out, classifier_file, precision="float32")
        words += ["--purifier", "none", "--N0", "8", "--N", "30", "--skip", "200"]
    else:
        stored = STORED / "version_0_2" / "runs1.manifest.json"
        adopted.adopt(stored, out, classifier_file, diffusion=file_sha256(unet_file))
        words += [
            "--diffusion", str(unet_file), "--purifier", "multistep", "--steps", "2", "--runs",
            "1", "--N0", "4", "--N", "12", "--skip", "500",
        ]  # fmt: skip
    run(out, *words, "--precision", "float32")
    manifest = read_manifest(out.with_suffix(".manifest.json"))
    assert manifest is not None
    assert "ties" not in manifest.identity  # it is the old one still
    said = answer(out, capsys, *words[1:3], "--diffusion", str(unet_file))
    assert "2 images voted again (seed 0): none of" in said
