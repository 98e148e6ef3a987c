"""Files in the forms that the field publishes, through the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffsmooth.cli import certify, doctor
from diffsmooth.models import build_classifier
from diffsmooth.models.dataset_info import CIFAR10

ABOVE_MEAN = (0.15, 0.25)  # brightness of the two classes, less CIFAR-10's mean


def threshold_network(threshold: float) -> nn.Module:
    """A ResNet-8 that answers 1 where its input's channel 0 is above `threshold`, else 0.

    By the mean of relu(x - threshold) less that of relu(threshold - x).
    """
    network = build_classifier("cifar_resnet8", 10, "none", CIFAR10)[1]
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1.0)
        network.conv1.weight[0, 0, 1, 1] = 1.0
        network.conv1.weight[1, 0, 1, 1] = -1.0
        network.bn1.bias[0], network.bn1.bias[1] = -threshold, threshold
        for layer in (network.layer2, network.layer3):
            for channel in (0, 1):
                layer[0].downsample[0].weight[channel, channel, 0, 0] = 1.0
        network.fc.weight[0, 1] = network.fc.weight[1, 0] = 1.0
    return network


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty even images of two brightnesses, under cifar10's name."""
    labels = np.arange(60) % 2
    values = np.array(CIFAR10.mean) + np.array(ABOVE_MEAN)[labels][:, None]
    images = np.broadcast_to(values[:, None, None], (60, 32, 32, 3))
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "test.npz", images=np.uint8(255 * images), labels=labels)
    return folder


def write(form: str, layer: str, path: Path) -> None:
    """A file as `form` publishes it, of a network that is right behind `layer` only."""
    mean, std = CIFAR10.mean[0], CIFAR10.std[0]
    middle = sum(ABOVE_MEAN) / 2
    threshold = {"standard": middle / std, "center": middle, "none": mean + middle}[layer]
    network = threshold_network(threshold)
    state = network.state_dict()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9).state_dict()
    if form == "MACER":
        torch.save({"net": state, "epoch": 440}, path)
        return
    prefix = "1.module." if form == "data parallel" else "1."
    weights = {f"{prefix}{key}": value for key, value in state.items()}
    content = {"epoch": 90, "arch": "cifar_resnet8", "state_dict": weights, "optimizer": optimizer}
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")


CASES = [
    ("zip", "standard"),  # as Cohen et al.
    ("zip", "center"),  # as SmoothAdv
    ("legacy", "center"),  # as torch wrote files before 1.6
    ("data parallel", "none"),
    ("MACER", "none"),
]


@pytest.mark.parametrize(("form", "layer"), CASES)
def test_certify_finds_the_input_layer_and_is_right(
    form: str, layer: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "checkpoint.pth.tar", tmp_path / "o.txt"
    write(form, layer, path)
    arguments = [
        "cifar10", str(path), "0.12", str(out), "--purifier", "none", "--m", "1",
        "--local_noise_sd", "0", "--N0", "10", "--N", "40", "--skip", "29", "--threads", "1",
        "--data_root", str(data), "--accelerator", "cpu", "--logdir", str(tmp_path / "logs"),
    ]  # fmt: skip
    certify.main(arguments)
    said = capsys.readouterr().out
    assert [line.split("\t")[1:3] for line in out.read_text().splitlines()[1:]] == [
        ["0", "0"], ["1", "1"], ["0", "0"],
    ]  # fmt: skip
    identity = json.loads((tmp_path / "o.manifest.json").read_text())["identity"]
    assert identity["input_layer"] == layer
    if form == "MACER":
        assert "under noise" not in said  # the file's form says it
        return
    assert f"input layer {layer}: accuracy 1.00 (60 of 60) under noise <- taken" in said
    assert said.count("accuracy 1.00") == 1
    certify.main(arguments)  # resuming does not measure again
    assert "under noise" not in capsys.readouterr().out


@pytest.mark.parametrize(("form", "layer"), CASES)
def test_doctor_tells_the_input_layer_and_the_noise_level(
    form: str, layer: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    write(form, layer, path)
    doctor.main([str(path), "--dataset", "cifar10", "--data_root", str(data), "--N", "100"])
    said = capsys.readouterr().out
    assert "keys         all fit cifar_resnet8, 78," in said
    assert f"input layer  {layer}" in said
    if form != "MACER":
        assert f"{layer}: accuracy 0.97 (58 of 60) at sigma 0.25 <- fits best" in said
    assert "1.00 at 0, 1.00 at 0.12, 0.97 at 0.25" in said
    assert "trained at   about sigma 0.25" in said  # beyond it, its mean of 64 pixels is too noisy


def test_doctor_goes_on_after_a_bad_file(
    tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(classifier_file.read_bytes()[:1000])
    unknown = tmp_path / "unknown.pt"
    state = torch.load(classifier_file, weights_only=True)["state_dict"]
    del state["1.fc.bias"]
    torch.save({"arch": "cifar_resnet8", "state_dict": state | {"1.x": torch.ones(1)}}, unknown)
    with pytest.raises(SystemExit) as stopped:
        doctor.main([str(broken), str(unknown), "--dataset", "fashion_mnist_sample"])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2
    assert "broken.pt: not a readable checkpoint" in errors[0]
    assert "1.fc.bias is missing; 1.x is not expected" in errors[1]


def test_doctor_names_the_nearest_of_the_known_diffusion_models(
    tmp_path: Path, unet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unet.pt"
    torch.save(torch.load(unet_file, weights_only=True)["state_dict"], path)
    with pytest.raises(SystemExit):
        doctor.main([str(path)])
    error = capsys.readouterr().err
    assert "nearest is small-gray32, but" in error
    assert "misfits in all" in error


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from diffsmooth.models import load_classifier

    model = build_classifier("resnet10t", 10, "center")
    path = tmp_path / "model.bin"  # known by its content
    save_file({k.removeprefix("1."): v for k, v in model.state_dict().items()}, path)
    loaded = load_classifier(path, "resnet10t", "center")
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model.eval()(x))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"model\.bin: not a readable checkpoint"):
        load_classifier(path, "resnet10t", "center")
