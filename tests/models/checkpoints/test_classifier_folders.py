"""Folders of `transformers` and timm: against the libraries' own outputs."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
import timm
from safetensors.torch import save_file
from torch.nn.functional import interpolate
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from diffsmooth.cli import export
from diffsmooth.models.checkpoints.folders import folder_sha256
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.loading import classifier_of, load_classifier
from diffsmooth.models.classifiers.architectures import build_classifier, own_input_layer
from diffsmooth.models.classifiers.dataset_info import CIFAR10
from diffsmooth.models.classifiers.hugging_face import ImageProcessor
from diffsmooth.models.classifiers.input_layers import Resized
from diffsmooth.stats.errors import UserError


def vit(**options: object) -> ViTForImageClassification:
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            image_size=32, patch_size=8, num_labels=10, **options,
        )
    ).eval()  # fmt: skip


def saved(folder: Path, network: PreTrainedModel, **processor: object) -> Path:
    network.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    ViTImageProcessor(**{"size": size, **processor}).save_pretrained(folder)
    return folder


def resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=10)
    return ResNetForImageClassification(config).eval()


def convnext() -> ConvNextForImageClassification:
    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=10)
    return ConvNextForImageClassification(config).eval()


@pytest.mark.parametrize("make", [vit, resnet, convnext])
@torch.inference_mode()
def test_logits_are_the_librarys(tmp_path: Path, make) -> None:
    network = make()
    folder = saved(tmp_path / "net", network, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    x = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    wanted = network(pixel_values=(x - mean) / std).logits
    model = load_classifier(folder)
    torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-5)
    assert read_checkpoint(folder).metadata.image_shape == [3, 32, 32]
    # Images of another size are resized, noise and all, in front of the network.
    small = torch.rand(2, 3, 16, 16)
    model = classifier_of(read_checkpoint(folder), CIFAR10, image_shape=(3, 16, 16))
    assert isinstance(model[0], Resized)
    large = interpolate(small, (32, 32), mode="bicubic", antialias=True)
    wanted = network(pixel_values=(large - mean) / std).logits
    torch.testing.assert_close(model(small), wanted, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": 127.5, "image_std": 64.0},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
    ],
)
def test_the_processors_numbers_become_the_input_layer(tmp_path: Path, options: dict) -> None:
    """On an 8-bit image the library's own processor gives what our input layer gives."""
    network = vit()
    folder = saved(tmp_path / "net", network, **options)
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    processor = ViTImageProcessor.from_pretrained(folder)
    wanted = processor(pixels, return_tensors="pt")["pixel_values"]
    layer = load_classifier(folder)[0]
    torch.testing.assert_close(layer(pixels[None] / 255), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"size": 48}, (48, 48)),
        ({"size": {"shortest_edge": 48}}, (48, 48)),
        ({"size": {"height": 24, "width": 48}}, (24, 48)),
        ({"size": {"shortest_edge": 64}, "crop_size": 48, "do_center_crop": True}, (48, 48)),
        ({"size": {"shortest_edge": 64}, "crop_size": {"height": 24, "width": 48},
          "do_center_crop": True}, (24, 48)),
        ({"size": {"shortest_edge": 64}, "crop_size": 48}, (64, 64)),
        ({"size": 48, "do_resize": False}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_sizes_of_processors(config: dict, size: tuple[int, int] | None) -> None:
    assert ImageProcessor.from_config(config).size == size


def test_convnexts_own_processor(tmp_path: Path) -> None:
    convnext().save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": 224}).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).metadata.image_shape == [3, 224, 224]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auto_map": {"AutoModel": "modeling.py--Net"}}, "code of its own"),
        ({"architectures": ["ViTModel"]}, "no image classifier"),
        ({"architectures": None}, "no image classifier"),
        ({"model_type": "none_such"}, "not a configuration that is known"),
        ({"num_hidden_layers": 3}, "is missing"),
        ({"num_hidden_layers": 1}, "is not expected"),
        ({"intermediate_size": 8}, "does not fit|not a readable"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    folder = saved(tmp_path / "net", vit())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=words):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        ({"do_flip_channel_order": True, "image_mean": 0.5, "image_std": 0.5}, "blue first"),
        ({"do_normalize": True}, "does not say by what"),
        ({"size": "large"}, "cannot be read"),
    ],
)
def test_processors_that_are_refused(tmp_path: Path, processor: dict, words: str) -> None:
    folder = saved(tmp_path / "net", vit())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(UserError, match=words):
        read_checkpoint(folder)


def test_efficientnets_divide_twice() -> None:
    config = {"image_mean": [0.5], "image_std": [0.5], "include_top": True}
    assert ImageProcessor.from_config(config).layer == "0.5,0.25"
    assert ImageProcessor.from_config({"size": 32}).layer == ""  # it does not say


@torch.inference_mode()
def test_a_folder_in_half_precision_votes_in_float32(tmp_path: Path) -> None:
    network = vit().half()
    folder = saved(tmp_path / "net", network)
    model = load_classifier(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    x = torch.rand(2, 3, 32, 32)
    wanted = network.float()(pixel_values=(x - 0.5) / 0.5).logits
    torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-5)
    assert build_classifier(str(folder), 10, "none")[1].dtype == torch.float32


def test_a_folder_is_known_by_its_content_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "net", vit())
    one, digest = read_checkpoint(folder).metadata.arch, folder_sha256(folder)
    moved = folder.rename(tmp_path / "resnet50")
    assert (read_checkpoint(moved).metadata.arch, folder_sha256(moved)) == (one, digest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id2label": {str(n): "cat" for n in range(1, 11)}}, "id2label does not name classes 0"),
        ({"dtype": "float16"}, ""),
    ],
)
def test_labels_of_a_folder(tmp_path: Path, change: dict, words: str) -> None:
    folder = saved(tmp_path / "net", vit())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    if words:
        with pytest.raises(UserError, match=words):
            read_checkpoint(folder)
    else:
        assert len(read_checkpoint(folder).metadata.class_names) == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_args": {"global_pool": "max"}}, r"global_pool \(model_args\)"),
        ({"pretrained_cfg": [1]}, "cannot be true"),
        ({"num_classes": "10"}, "cannot be true"),
        ({"pretrained_cfg": {"mean": None}}, ""),
    ],
)
def test_configurations_of_timm(tmp_path: Path, change: dict, words: str) -> None:
    network = timm.create_model("resnet10t", num_classes=10)
    config = {"architecture": "resnet10t", "num_classes": 10}
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    if words:
        with pytest.raises(UserError, match=words):
            read_checkpoint(tmp_path)
    else:
        assert read_checkpoint(tmp_path).metadata.input_layer == ""


@torch.inference_mode()
def test_pickled_weights_of_a_folder_are_read_as_weights_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "net", vit())
    x, wanted = torch.rand(2, 3, 32, 32), load_classifier(folder)
    (folder / "model.safetensors").unlink()
    weights = vit().state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    assert torch.equal(load_classifier(folder)(x), wanted(x))
    torch.save({**weights, "classifier.extra": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"classifier\.extra is not expected"):
        read_checkpoint(folder)
    torch.save(vit(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than weights: save the network's state dict"):
        read_checkpoint(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="not a readable network"):
        read_checkpoint(folder)


@pytest.mark.parametrize("place", ["sub/w.safetensors", "../w.safetensors", "/w.safetensors", 3])
def test_shards_lie_in_the_folder_whose_digest_covers_them(tmp_path: Path, place: object) -> None:
    folder = saved(tmp_path / "net", vit())
    (folder / "model.safetensors").rename(folder / "w.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(vit().state_dict(), "w.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_checkpoint(folder).metadata.image_shape == [3, 32, 32]
    index["weight_map"]["classifier.bias"] = place  # type: ignore[index]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: names .*, no weights of this folder"):
        read_checkpoint(folder)


def test_the_weights_of_a_folder_alone_are_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "net", vit())
    with pytest.raises(SystemExit):
        export.main([str(folder), str(tmp_path / "vit.pt")])
    assert "whose weights alone do not tell how the network is built" in capsys.readouterr().err
    assert not (tmp_path / "vit.pt").exists()


def test_a_folder_is_an_architecture_too(tmp_path: Path) -> None:
    folder = saved(tmp_path / "net", vit())
    assert own_input_layer(str(folder)) == "0.5,0.5,0.5,0.5,0.5,0.5"  # by its image processor
    model = build_classifier(str(folder), 7, "standard")
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(UserError, match="takes images whose number of channels is 3, not 1"):
        build_classifier(str(folder), 7, "none", "fashion_mnist")


@torch.inference_mode()
def test_timms_folder_says_its_numbers(tmp_path: Path) -> None:
    network = timm.create_model("resnet10t", num_classes=10).eval()
    config = {
        "architecture": "resnet10t", "num_classes": 10, "label_names": list("abcdefghij"),
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
                           "input_size": [3, 64, 64]},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    wanted = network((x - mean) / std)
    torch.testing.assert_close(load_classifier(tmp_path)(x), wanted, atol=1e-5, rtol=1e-5)
    assert read_checkpoint(tmp_path).metadata.class_names == list("abcdefghij")


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the file in it"):
        read_checkpoint(tmp_path)
