import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffsmooth.models import build_classifier, build_unet, load_classifier, load_unet
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.reading import read_file
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import DatasetInfo


def test_a_written_checkpoint_is_read_back(classifier_file: Path, unet_file: Path) -> None:
    checkpoint = read_checkpoint(classifier_file)
    assert checkpoint.metadata.sigma == 0.25
    model = load_classifier(classifier_file)
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.state_dict[key])
    assert load_unet(unet_file).config.channel_mult == (1, 1)
    assert read_checkpoint(unet_file).metadata.max_sigma == 1.0


def test_the_file_has_the_fields_keys(classifier_file: Path) -> None:
    content = torch.load(classifier_file, weights_only=True)
    assert content["arch"] == "cifar_resnet8"
    assert "1.conv1.weight" in content["state_dict"]


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_named(
    form: str, protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(_RunsCode(), protocol=protocol))
    else:
        torch.save(
            {"state_dict": _RunsCode(), "ordinary": torch.ones(2)},
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=form == "zip",
        )
    with pytest.raises(
        ValueError, match=r"refused, it would run ((builtins|__builtin__)\.)?print;"
    ):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""
    if form == "zip":
        with pytest.warns(UserWarning, match="runs whatever code"):
            read_file(path, unsafe=True)
        assert capsys.readouterr().out == "code ran\n"


class _Calls:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.function, ("x",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (torch.hub.load, "torch.hub.load"),  # torch's own, and no less harmful
        (np.testing._private.utils.runstring, "numpy.testing._private.utils.runstring"),
    ],
)
def test_what_is_refused_is_named_beside_what_is_harmless(
    function: Callable[..., Any], name: str, protocol: int, tmp_path: Path
) -> None:
    path = tmp_path / "evil.pt"
    state = build_classifier("cifar_resnet8", 10).state_dict()
    content = {"classes": {1, 2}, "state_dict": state, "args": argparse.Namespace(lr=1)}
    torch.save({**content, "x": _Calls(function)}, path, pickle_protocol=protocol)
    with pytest.raises(ValueError, match=f"refused, it would run {name}; "):
        read_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"would run torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(path)


def test_a_recompressed_file_is_read_all_the_same(tmp_path: Path, classifier_file: Path) -> None:
    path = tmp_path / "small.pt"
    with (
        zipfile.ZipFile(classifier_file) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    expected = read_checkpoint(classifier_file).state_dict
    weights = read_checkpoint(path).state_dict
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "change",
    [{"kind": "banana"}, {"arch": 5}, {"class_names": 5}, {"image_shape": [32]}, {"sigma": "0.5"}],
    ids=str,
)
def test_broken_metadata_are_refused(
    change: dict[str, Any], tmp_path: Path, classifier_file: Path
) -> None:
    content = torch.load(classifier_file, weights_only=True)
    content["diffsmooth"].update(change)
    path = tmp_path / "c.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"c\.pt: a broken checkpoint"):
        read_checkpoint(path)


def test_numpy_scalars_and_namespaces_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    content = {
        "net": {"a": torch.ones(2)},
        "best": np.float64(0.5),
        "count": np.int64(3),
        "half": np.float16(0.5),
        "name": np.str_("resnet"),
        "args": argparse.Namespace(lr=0.1),
    }
    torch.save(content, path)
    back = read_file(path)
    assert (back["best"], back["count"], back["args"].lr) == (0.5, 3, 0.1)


def test_broken_files_are_one_clear_line(tmp_path: Path, classifier_file: Path) -> None:
    whole = classifier_file.read_bytes()
    path = tmp_path / "broken.pt"
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.pt: not a readable checkpoint") as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"no such checkpoint .docs.checkpoints.md: "):
        read_checkpoint(tmp_path / "missing.pt")
    for nothing in (
        [1, 2],
        {},
        {"state_dict": {}},
        {"state_dict": {"a": 1}},
        {0: torch.ones(2)},
        torch.ones(2),
    ):
        torch.save(nothing, path)
        with pytest.raises(ValueError, match="holds no weights that we know"):
            read_checkpoint(path)


def test_the_wrong_kind_and_the_wrong_architecture_are_named(
    tmp_path: Path, classifier_file: Path, unet_file: Path
) -> None:
    with pytest.raises(ValueError, match="holds a unet, a classifier is wanted"):
        load_classifier(unet_file)
    with pytest.raises(ValueError, match="holds a classifier, a unet is wanted"):
        load_unet(classifier_file)
    metadata = read_checkpoint(classifier_file).metadata
    wrong = tmp_path / "wrong.pt"
    state = build_classifier("cifar_resnet14", 10, dataset="fashion_mnist").state_dict()
    write_checkpoint(wrong, metadata, state)
    with pytest.raises(ValueError, match=r"do not fit: layer1\.1\.conv1\.weight"):
        load_classifier(wrong)
    wide = build_classifier("cifar_resnet8", 7, dataset="fashion_mnist").state_dict()
    write_checkpoint(wrong, metadata, wide)
    with pytest.raises(ValueError, match=r" fc\.weight is \(7, 64\), not \(10, 64\)"):
        load_classifier(wrong)


def test_metadata_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "future.pt"
    content = {"epoch": 0, "state_dict": {}, "diffsmooth": {"kind": "unet", "colour": "red"}}
    torch.save(content, path)
    with pytest.raises(ValueError, match="a broken checkpoint"):
        read_checkpoint(path)
    assert CheckpointMetadata("unet", "x").overrides == {}


def same_logits(one: torch.nn.Module, other: torch.nn.Module, shape: tuple[int, ...]) -> bool:
    x = torch.rand(shape)
    with torch.inference_mode():
        return torch.allclose(one.eval()(x), other.eval()(x))


@pytest.mark.parametrize("form", ["cohen", "data parallel", "macer", "bare"])
def test_the_fields_cifar_checkpoints(form: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    layer = "center"
    model = build_classifier("cifar_resnet20", 10, layer)
    state = model.state_dict()
    bare = {key.removeprefix("1."): value for key, value in state.items()}
    if form == "cohen":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict()
        torch.save(
            {"epoch": 90, "arch": "cifar_resnet20", "state_dict": state, "optimizer": optimizer},
            path,
        )
    elif form == "data parallel":
        wrapped = {f"1.module.{key}": value for key, value in bare.items()}
        torch.save({"epoch": 90, "arch": "cifar_resnet20", "state_dict": wrapped}, path)
    elif form == "macer":
        torch.save({"net": bare, "epoch": 440}, path)
    else:
        torch.save(bare, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata.arch == "cifar_resnet20"
    assert checkpoint.epoch == {"cohen": 90, "data parallel": 90, "macer": 440, "bare": -1}[form]
    assert same_logits(load_classifier(path, input_layer=layer), model, (2, 3, 32, 32))
    with pytest.raises(ValueError, match="does not name its input layer"):
        load_classifier(path)  # also of MACER's form, which others write, too


def test_imagenet_checkpoints_of_cohen_and_of_timm(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    model = build_classifier("resnet50", 1000, "standard", "imagenet")
    bare = {key.removeprefix("1."): value for key, value in model.state_dict().items()}
    wrapped = {f"1.module.{key}": value for key, value in bare.items()}
    torch.save({"epoch": 1, "arch": "resnet50", "state_dict": wrapped}, path)
    loaded = load_classifier(path, input_layer="standard", dataset="imagenet")
    assert same_logits(loaded, model, (1, 3, 64, 64))
    torch.save(bare, path)
    with pytest.raises(ValueError, match="does not name its architecture: give it"):
        load_classifier(path, input_layer="standard", dataset="imagenet")
    loaded = load_classifier(path, "resnet50", "standard", "imagenet")
    assert same_logits(loaded, model, (1, 3, 64, 64))


def test_a_downsampled_imagenet_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    model = build_classifier("cifar_resnet110", 1000, "standard", "cifar10").eval()
    content = {"epoch": 1, "arch": "imagenet32_resnet110", "state_dict": model.state_dict()}
    torch.save(content, path)
    metadata = read_checkpoint(path).metadata
    # SmoothAdv's code has CIFAR-10's constants for imagenet32, and no layer that centers only.
    layer = "0.4914,0.4822,0.4465,0.2023,0.1994,0.201"
    assert (metadata.arch, metadata.input_layer) == ("cifar_resnet110", layer)
    folder = DatasetInfo("folder", (3, 32, 32), tuple(map(str, range(1000))))
    assert same_logits(load_classifier(path, dataset=folder), model, (2, 3, 32, 32))
    other = load_classifier(path, dataset=folder, input_layer="none")
    assert not same_logits(other, model, (2, 3, 32, 32))


def test_old_timm_beit_checkpoints_carry_a_table_that_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    with torch.device("meta"):
        keys = build_classifier("beit_large_patch16_224", 1000, "0.5,0.5", "imagenet").state_dict()
    state = {key: torch.zeros(0) for key in keys}
    for block in range(24):
        name = f"1.blocks.{block}.attn.relative_position_index"
        state[name] = torch.zeros(197, 197, dtype=torch.int64)
    torch.save({"epoch": 1, "arch": "beit_large_patch16_224", "state_dict": state}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.state_dict.keys() == keys.keys()
    assert checkpoint.metadata.input_layer == "0.5,0.5"


def test_other_files_with_a_net_do_not_say_their_input_layer(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    state = build_classifier("cifar_resnet8", 10)[1].state_dict()
    torch.save({"net": state, "acc": 0.9, "epoch": 1}, path)
    assert read_checkpoint(path).metadata.input_layer == ""


def test_openai_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "unet.pt"
    small = build_unet("improved-cifar10", model_channels=32, num_res_blocks=1)
    torch.save(small.state_dict(), path)
    with pytest.raises(ValueError, match="none of those we know"):
        load_unet(path)
    loaded = load_unet(path, "improved-cifar10", model_channels=32, num_res_blocks=1)
    assert loaded.config.model_channels == 32
    state = build_unet("improved-cifar10").state_dict()
    torch.save({key: value.half() for key, value in state.items()}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata.preset == "improved-cifar10"
    assert next(load_unet(path).parameters()).dtype == torch.float32
    torch.save({**state, "label_emb.weight": torch.zeros(1000, 512)}, path)
    with pytest.raises(ValueError, match=r"class-conditional.*256x256_diffusion_uncond"):
        load_unet(path)
