"""`diffsmooth verify --replay` of runs on pictures, behind other networks, and of old manifests."""

from pathlib import Path

import adopted
import pytest
import torch
from pictures import coloured

from diffsmooth.cli import certify, verify
from diffsmooth.models import build_classifier
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.whole_file import file_sha256

STORED = Path(__file__).parents[1] / "runs"


def run(out: Path, *words: str) -> None:
    certify.main([
        *words, "--sigma", "0.50", "--outfile", str(out), "--m", "1", "--local_noise_sd", "0",
        "--batch", "16", "--logdir", str(out.parent / "logs"), "--accelerator", "cpu",
        "--no_sanity_check", "--threads", "1", "--compile", "false",
    ])  # fmt: skip


def answer(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    verify.main([str(out), "--replay", "2", "--seed", "0", *words])
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
    said = answer(out, capsys, *sized)
    assert "2 images voted again (seed 0): none of 32 votes differ" in said


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
