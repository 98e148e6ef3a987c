"""`diffsmooth doctor` on files whose truth is known."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from diffsmooth.cli import doctor, export
from diffsmooth.models import build_classifier, build_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.training_images import TrainingImages, split_images
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import get_dataset_info
from diffsmooth.pipeline import examine
from diffsmooth.pipeline.examine import describe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    images = np.full((30, 32, 32), 128, np.uint8)
    np.savez(folder / "test.npz", images=images, labels=np.arange(30) % 10)
    return folder


def test_a_classifier_of_ours(
    classifier_file: Path, unet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--diffusion", str(unet_file), "--m", "2", "--N", "1000", "--images", "7"]
    doctor.main([str(classifier_file), *options])
    out = capsys.readouterr().out
    assert hashlib.sha256(classifier_file.read_bytes()).hexdigest() in out
    assert "a classifier, cifar_resnet8" in out
    assert "sigma' 0.25" in out
    assert "input layer standard" in out
    assert "keys         all fit" in out
    assert "hours for 7 images of 1,000 votes" in out


def test_what_the_training_did_with_its_images(tmp_path: Path, classifier_file: Path) -> None:
    plain, path = read_checkpoint(classifier_file), tmp_path / "c.pt"
    write_checkpoint(path, plain.metadata, plain.state_dict)
    assert "  images       unknown: the checkpoint does not say" in describe_text(path)
    split = split_images(50, 0, 0, 0)
    told = TrainingImages("fashion_mnist", "0" * 64, 50, 0, 0, 0, split.choice, "test")
    write_checkpoint(path, plain.metadata, plain.state_dict, 0, told)
    said = "trained on 50 of the 50 images of fashion_mnist; its TEST images may have chosen this"
    assert f"  images       {said}" in describe_text(path)
    export.main([str(path), str(tmp_path / "e.pt")])
    assert read_checkpoint(tmp_path / "e.pt").images == told


def test_a_plain_file_does_not_say_what_trained_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info, path = get_dataset_info("cifar10"), tmp_path / "c.pt"
    state = build_classifier("cifar_resnet20", 10, "standard", info).state_dict()
    metadata = CheckpointMetadata(
        "classifier", "cifar10", "cifar_resnet20", "standard", [3, 32, 32],
        list(info.class_names), list(info.mean), list(info.std),
    )  # fmt: skip
    split = split_images(50, 0, 0, 0)
    told = TrainingImages("cifar10", "0" * 64, 50, 0, 0, 0, split.choice, "nothing")
    write_checkpoint(path, metadata, state, 0, told)
    export.main([str(path), str(tmp_path / "p.pt"), "--plain"])
    assert read_checkpoint(tmp_path / "p.pt").images is None
    assert "which images trained it" in capsys.readouterr().err


def test_export_takes_a_card_into_the_file(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "checkpoints" / "fashion_mnist_clean.pt"
    export.main([str(file), str(tmp_path / "e.pt")])
    found = read_checkpoint(tmp_path / "e.pt").images
    assert found is not None
    assert (found.trained, found.validation, found.chosen_by) == (58_000, 2_000, "validation")


def describe_text(path: Path) -> str:
    return "\n".join(describe(read_checkpoint(path)))


def test_a_published_diffusion_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "unet.pt"
    torch.save(build_unet("improved-cifar10").half().state_dict(), path)
    doctor.main([str(path)])
    out = capsys.readouterr().out
    assert "written by   OpenAI" in out
    assert "a unet, improved-cifar10: 446 tensors, 52,546,438 numbers" in out
    assert "keys         all fit" in out


def test_a_classifier_that_says_nothing(
    tmp_path: Path,
    classifier_file: Path,
    unet_file: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bare.pth"
    state = torch.load(classifier_file, weights_only=True)["state_dict"]
    torch.save({key.removeprefix("1."): value for key, value in state.items()}, path)
    doctor.main([str(path)])
    assert "name labelled images by --dataset" in capsys.readouterr().out
    options = ["--dataset", "fashion_mnist", "--data_root", str(data), "--m", "1"]
    doctor.main([str(path), *options, "--diffusion", str(unet_file)])
    out = capsys.readouterr().out
    for layer in ("standard", "center", "none"):
        assert f"input layer  {layer}: accuracy" in out
    # Of random weights none is right: the first is not taken as if it were.
    assert "input layer  no layer does better than chance (0.1): --normalize decides" in out
    assert "accuracy     not measured" in out
    assert "fits best" not in out
    doctor.main([str(path), *options, "--diffusion", str(unet_file), "--normalize", "none"])
    out = capsys.readouterr().out
    assert "fashion_mnist)" in out  # these images, not the shipped ones


def test_mistakes_are_one_line(
    tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([str(tmp_path / "missing.pt")], "no such checkpoint"),
        ([str(classifier_file), "--m", "0"], "m must be at least 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            doctor.main(arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_keys_are_checked_without_images(
    tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(classifier_file, weights_only=True)["state_dict"]
    path = tmp_path / "c.pth.tar"
    torch.save({"arch": "cifar_resnet8", "state_dict": state}, path)
    doctor.main([str(path)])
    assert "all fit cifar_resnet8, 77,754 parameters, 10 classes" in capsys.readouterr().out
    torch.save({"arch": "cifar_resnet14", "state_dict": state}, path)
    with pytest.raises(SystemExit) as stopped:
        doctor.main([str(path)])
    assert stopped.value.code == 2
    assert "weights do not fit: layer1.1.conv1.weight is missing" in capsys.readouterr().err


def test_a_classifier_of_a_folder_takes_its_images_at_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        Image.new("RGB", (48, 48)).save(tmp_path / "flowers" / name / "x.png")
    model = build_classifier("cifar_resnet8", 2, "none", "cifar10")
    metadata = CheckpointMetadata(
        "classifier", "flowers", arch="cifar_resnet8", input_layer="none",
        image_shape=[3, 32, 32], class_names=["a", "b"],
    )  # fmt: skip
    write_checkpoint(tmp_path / "c.pt", metadata, model.state_dict())
    doctor.main([str(tmp_path / "c.pt")])
    assert "not measured: name labelled images by --dataset" in capsys.readouterr().out
    doctor.main([str(tmp_path / "c.pt"), "--dataset", str(tmp_path / "flowers"), "--N", "10"])
    assert "2 images of flowers" in capsys.readouterr().out


def test_a_planned_run_is_checked_as_certify_does(
    classifier_file: Path, unet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        doctor.main([str(classifier_file), "--diffusion", str(unet_file), "--sigma", "2"])
    assert stopped.value.code == 2
    assert "the largest possible is 1" in capsys.readouterr().err


def test_the_shipped_networks_say_what_they_were_trained_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = sorted((Path(__file__).parents[2] / "checkpoints").glob("*.pt"))
    names = {file.name for file in files}  # an sdist has those of Fashion-MNIST alone
    assert {"fashion_mnist_diffusion.pt", "fashion_mnist_purified_0.50.pt"} <= names
    for file in files:
        checkpoint = read_checkpoint(file)
        assert file.name.startswith(checkpoint.metadata.dataset + "_")
        said = describe(checkpoint)[-1]
        assert ("purified at sigma 0.5" in said) == ("purified" in file.name)


def test_a_weight_that_overflows_is_named(
    tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_checkpoint(classifier_file)
    checkpoint.state_dict["1.fc.bias"][3] = 3e38  # finite, but the largest numbers are near
    path = tmp_path / "c.pt"
    write_checkpoint(path, checkpoint.metadata, checkpoint.state_dict)
    with pytest.raises(SystemExit) as stopped:
        doctor.main([str(path), "--accelerator", "cpu"])
    assert stopped.value.code == 2
    assert "1.fc gives 3e+38" in capsys.readouterr().err


def test_the_training_noise_is_guessed_only_where_the_file_does_not_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "MOST_IMAGES", 60)
    said = Path(__file__).parents[2] / "checkpoints" / "fashion_mnist_gaussian_0.25.pt"
    known = read_checkpoint(said)
    silent = tmp_path / "silent.pt"
    write_checkpoint(silent, known.metadata._replace(sigma=None), known.state_dict)
    for path, guessed in ((said, False), (silent, True)):
        doctor.main([str(path), "--images", "1", "--N", "10", "--m", "1"])
        out = capsys.readouterr().out
        assert ("trained at   about" in out) == guessed
        assert ("sigma' 0.25" in out) != guessed


def test_a_purifier_of_ones_own_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "purifiers_of_mine.py").write_text(
        "from diffsmooth.models.smoothing.purifier_kinds import PurifierKind\n"
        "from diffsmooth.models import IdentityPurifier\n"
        "class Mine(IdentityPurifier):\n    pass\n"
        "KIND = PurifierKind(Mine, denoiser=False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    doctor.main(["purifiers_of_mine:KIND", "purifiers_of_mine:Mine"])
    assert capsys.readouterr().out.count("takes it as --purifier") == 2


def test_a_head_may_be_a_convolution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = timm.create_model("dla46_c", num_classes=7)
    path = tmp_path / "dla.pth"
    weights = {f"1.{key}": value for key, value in network.state_dict().items()}
    torch.save({"arch": "dla46_c", "state_dict": weights}, path)
    doctor.main([str(path)])
    out = capsys.readouterr().out
    assert "keys         all fit dla46_c, " in out
    assert "7 classes" in out
