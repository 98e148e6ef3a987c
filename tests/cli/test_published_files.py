"""Files in the forms that the field publishes, through the commands."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from diffsmooth.cli import certify, doctor, export
from diffsmooth.models import build_classifier
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import CIFAR10
from diffsmooth.pipeline.input_layer_choice import MeasuredLayer, judge_layers
from diffsmooth.pipeline.trainer import threads_a_process

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


def words(path: Path, out: Path, data: Path, *changes: str) -> list[str]:
    """A small run by Cohen's method."""
    return [
        "cifar10", str(path), "0.12", str(out), "--purifier", "none", "--m", "1",
        "--local_noise_sd", "0", "--N0", "10", "--N", "40", "--skip", "29",
        "--data_root", str(data), "--accelerator", "cpu", "--logdir", str(out.parent / "logs"),
        *changes,
    ]  # fmt: skip


def identity_of(out: Path) -> dict[str, object]:
    return json.loads(out.with_suffix(".manifest.json").read_text())["identity"]


def predictions(out: Path) -> list[str]:
    return [line.split("\t")[2] for line in out.read_text().splitlines()[1:]]


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
    arguments = words(path, out, data, "--threads", "1")
    certify.main(arguments)
    said = capsys.readouterr().out
    assert [line.split("\t")[1:3] for line in out.read_text().splitlines()[1:]] == [
        ["0", "0"], ["1", "1"], ["0", "0"],
    ]  # fmt: skip
    identity = json.loads((tmp_path / "o.manifest.json").read_text())["identity"]
    assert identity["input_layer"] == layer
    told = f"classifier: cifar_resnet8 behind input layer {layer}, a file of "
    assert told in said
    assert f"input layer {layer}: accuracy 1.00 (60 of 60) under noise <- taken" in said
    assert said.count("accuracy 1.00") == 1
    certify.main(arguments)  # resuming does not measure again
    said = capsys.readouterr().out
    assert "under noise" not in said
    assert told in said


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
    assert f"{layer}: accuracy 0.96 (58 of 60) at sigma 0.25 <- fits best" in said
    assert "1.00 at 0, 1.00 at 0.12, 0.96 at 0.25" in said
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
    assert "do not fit: fc.bias is missing; x is not expected" in errors[1]


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


def refusal(command: Callable[[list[str]], None], arguments: list[str], err: Any) -> str:
    with pytest.raises(SystemExit) as stopped:
        command(arguments)
    assert stopped.value.code == 2
    said = err().err
    assert len(said.strip().splitlines()) == 1
    return said


@pytest.mark.parametrize("changes", [(), ("--no_sanity_check",), ("--N", "10", "--max", "1")])
def test_no_input_layer_is_taken_at_chance(
    changes: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.pth.tar", tmp_path / "o.txt"
    torch.manual_seed(0)
    state = build_classifier("cifar_resnet8", 10, "none").state_dict()
    torch.save({"arch": "cifar_resnet8", "state_dict": state}, path)
    said = refusal(certify.main, words(path, out, data, *changes), capsys.readouterr)
    for layer in ("standard", "center", "none"):
        assert f"{layer} 0." in said  # its accuracy
    assert "no layer does better than chance (0.5): name it by --normalize" in said
    assert not out.with_suffix(".manifest.json").exists()
    certify.main(words(path, out, data, "--normalize", "none", "--no_sanity_check"))


def test_few_images_do_not_tell_an_input_layer(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.pth.tar", tmp_path / "o.txt"
    write("zip", "center", path)
    with np.load(data / "test.npz") as whole:
        images, labels = whole["images"][:19], whole["labels"][:19]
    np.savez(data / "test.npz", images=images, labels=labels)
    said = refusal(certify.main, words(path, out, data), capsys.readouterr)
    assert "center 1.00 (19 of 19)" in said
    assert "19 images are too few to tell: name it by --normalize" in said


def test_the_choice_among_input_layers() -> None:
    labels = np.arange(100) % 10

    def layer(name: str, right: int, shift: int = 0) -> MeasuredLayer:
        return MeasuredLayer(name, torch.roll(torch.arange(100) < right, shift))

    clear = judge_layers([layer("a", 30), layer("b", 60)], 10, labels)
    assert (clear.name, clear.doubt) == ("b", "")
    tie = judge_layers([layer("a", 60, 3), layer("b", 60)], 10, labels)
    assert tie.name == "a"
    assert tie.doubt == "these images do not tell a from b"
    # Ten per cent is chance; P(Bin(100, 0.1) >= 19) = 0.0046, and two were tried.
    for right, name in ((18, ""), (19, "a")):
        least = 2 * binom.sf(right - 1, 100, 0.1)
        assert judge_layers([layer("a", right), layer("b", 0)], 10, labels).name == name
        assert (least <= 0.01) == bool(name)
    # A constant answer is right on 90 of 100 images of one class, and knows nothing.
    uneven = np.where(np.arange(100) < 90, 0, labels)
    assert judge_layers([layer("a", 91), layer("b", 10)], 10, uneven).name == ""


def test_constants_near_cohens_are_taken_only_where_they_are_clearly_better() -> None:
    """On 100 images networks behind Cohen's constants were right behind these as often."""
    labels = np.arange(1000) % 10

    def layer(name: str, right: int, is_seldom: bool = False) -> MeasuredLayer:
        return MeasuredLayer(name, torch.arange(100) < right, is_seldom)

    standard, none = layer("standard", 60), layer("none", 20)
    near = judge_layers([standard, none, layer("spread", 62, is_seldom=True)], 10, labels)
    assert near.name == "standard"
    assert near.doubt == "these images do not tell standard from spread"
    worse = judge_layers([standard, none, layer("spread", 60, is_seldom=True)], 10, labels)
    assert (worse.name, worse.doubt) == ("standard", "")
    clear = judge_layers([standard, none, layer("spread", 80, is_seldom=True)], 10, labels)
    assert (clear.name, clear.doubt) == ("spread", "")


def test_overwrite_takes_nothing_from_the_run_of_another_classifier(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, out = tmp_path / "a.pth.tar", tmp_path / "b.pth.tar", tmp_path / "o.txt"
    write("zip", "standard", first)
    write("zip", "none", second)
    certify.main(words(first, out, data, "--threads", "3", "--N", "400"))
    before = identity_of(out)
    assert (before["input_layer"], before["threads"]) == ("standard", 3)
    capsys.readouterr()
    said = refusal(certify.main, words(second, out, data, "--N", "400"), capsys.readouterr)
    assert "belongs to a different run (classifier was" in said
    assert identity_of(out) == before
    certify.main(words(second, out, data, "--N", "400", "--overwrite"))
    said = capsys.readouterr().out
    after = identity_of(out)
    assert after["input_layer"] == "none"
    assert after["threads"] == threads_a_process(1)
    assert "input layer none: accuracy 1.00 (60 of 60) under noise <- taken" in said
    assert "sanity check: accuracy" in said
    assert predictions(out) == ["0", "1", "0"]
    # The run's own choices bind it, with and without the word.
    certify.main(words(second, out, data, "--N", "400", "--overwrite"))
    said = capsys.readouterr().out
    assert "under noise" not in said
    assert "sanity check" not in said
    assert identity_of(out) == after


def test_of_two_sets_of_weights_one_is_voted_with_and_the_run_knows_which(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.pth.tar", tmp_path / "o.txt"
    right, wrong = threshold_network(0.2), threshold_network(0.2)
    nn.init.zeros_(wrong.fc.weight)
    wrong.fc.bias.data[7] = 1.0  # type: ignore[union-attr, operator, index]
    torch.save(
        {"arch": "cifar_resnet8", "state_dict": wrong.state_dict(),
         "state_dict_ema": right.state_dict()},
        path,
    )  # fmt: skip
    options = ("--normalize", "center", "--no_sanity_check")
    certify.main(words(path, out, data, *options))
    said = capsys.readouterr().out
    assert "two sets of weights, raw (state_dict) and averaged (state_dict_ema); taken: av" in said
    assert predictions(out) == ["0", "1", "0"]
    assert identity_of(out)["classifier_set"] == "state_dict_ema"
    raw = words(path, out, data, *options, "--weights", "raw")
    assert "classifier_set was 'state_dict_ema'" in refusal(certify.main, raw, capsys.readouterr)
    certify.main([*raw, "--overwrite"])
    assert "taken: raw\n" in capsys.readouterr().out
    assert predictions(out) == ["7", "7", "7"]
    doctor.main([str(path), "--weights", "raw"])
    assert "note         holds two sets" in capsys.readouterr().out
    plain, exported = tmp_path / "plain.pt", tmp_path / "e.pt"
    export.main([str(path), str(exported), "--weights", "raw"])
    assert "taken: raw" in capsys.readouterr().out
    certify.main(words(exported, tmp_path / "e.txt", data, *options))
    assert predictions(tmp_path / "e.txt") == ["7", "7", "7"]
    torch.save({"arch": "cifar_resnet8", "state_dict": right.state_dict()}, plain)
    for name in ("raw", "ema"):
        arguments = words(plain, tmp_path / "p.txt", data, *options, "--weights", name)
        capsys.readouterr()
        said = refusal(certify.main, arguments, capsys.readouterr)
        assert f"--weights {name}, but it holds one set" in said


def test_bombs_are_one_line_of_doctor_and_certify(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.pth.tar"
    state = threshold_network(0.2).state_dict()
    torch.save({"arch": "cifar_resnet6000002", "state_dict": state}, path)
    arguments = words(path, tmp_path / "o.txt", data, "--normalize", "center")
    for command, given in ((doctor.main, [str(path)]), (certify.main, arguments)):
        start = time.process_time()
        said = refusal(command, given, capsys.readouterr)
        assert "cifar_resnet6000002 has 6,000,002 layers, the file holds" in said
        assert time.process_time() - start < 60  # to build it would take many minutes


@pytest.mark.parametrize("name", ["sigma", "local_noise_sd"])
def test_noise_beyond_all_use_is_one_line(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words(tmp_path / "c.pt", tmp_path / "o.txt", data, f"--{name}", "1e300")
    said = refusal(certify.main, arguments, capsys.readouterr)
    assert f"{name} must be in 0.0001 .. 1000, got 1e+300" in said


@pytest.mark.parametrize(
    "change", [{"threads": "many"}, {"threads": 0}, {"compile": "yes"}, {"precision": "fp8"},
               {"input_layer": [1]}], ids=str,
)  # fmt: skip
def test_a_manifest_binds_to_what_a_run_can_have_chosen_only(
    change: dict[str, object], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.pth.tar", tmp_path / "o.txt"
    write("zip", "center", path)
    certify.main(words(path, out, data))
    manifest = out.with_suffix(".manifest.json")
    content = json.loads(manifest.read_text())
    content["identity"] |= change
    manifest.write_text(json.dumps(content))
    capsys.readouterr()
    said = refusal(certify.main, words(path, out, data), capsys.readouterr)
    assert "o.manifest.json: not a manifest" in said
    certify.main(words(path, out, data, "--overwrite"))
    assert identity_of(out)["input_layer"] == "center"


def test_classes_in_another_order_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.pt"
    model = build_classifier("cifar_resnet8", 10, "none", CIFAR10)
    names = [*reversed(CIFAR10.class_names)]
    metadata = CheckpointMetadata(
        "classifier", "cifar10", "cifar_resnet8", "none", [3, 32, 32], names
    )
    write_checkpoint(path, metadata, model.state_dict())
    said = refusal(certify.main, words(path, tmp_path / "o.txt", data), capsys.readouterr)
    assert "label 0 is airplane" in said
    assert "the classes are in another order" in said
