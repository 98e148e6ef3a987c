import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.models import InputCenter, Normalize, build_classifier
from diffsmooth.models.checkpoints.formats import read_checkpoint
from diffsmooth.models.checkpoints.loading import classifier_of
from diffsmooth.models.classifiers.dataset_info import CIFAR10, FASHION_MNIST
from diffsmooth.models.classifiers.input_layers import Resized


@pytest.mark.parametrize("depth", [20, 110])
def test_logits_equal_the_golden_ones(depth: int) -> None:
    model = build_classifier(f"cifar_resnet{depth}", 10).eval()
    model.load_state_dict(fill(model.state_dict()))
    golden = np.load(FOLDER / "resnet.npz")
    with torch.inference_mode():
        logits = model(torch.from_numpy(golden["x"])).numpy()
    expected = golden[f"logits_resnet{depth}"]
    np.testing.assert_allclose(logits, expected, atol=max(2e-4, 1e-4 * np.abs(expected).max()))


def test_keys_and_shapes_are_the_published_checkpoints() -> None:
    state = build_classifier("cifar_resnet110", 10).state_dict()
    mine = {key: "x".join(map(str, value.shape)) for key, value in state.items()}
    with open(FOLDER / "resnet110_cohen_keys.tsv") as lines:
        published = dict(csv.reader(lines, delimiter="\t"))
    assert mine == published


def test_input_layers_by_hand() -> None:
    x = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    normalized = Normalize((0.5, 0.0), (1.0, 0.5))(x)
    assert normalized.flatten().tolist() == [0.0, 0.5]
    assert InputCenter((0.5, 0.0))(x).flatten().tolist() == [0.0, 0.25]
    model = build_classifier("cifar_resnet8", 10, "none", "fashion_mnist")
    assert isinstance(model[0], torch.nn.Identity)
    halves = build_classifier("cifar_resnet8", 10, "0.5,0.25")[0]
    torch.testing.assert_close(halves(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 2.0))
    channels = build_classifier("cifar_resnet8", 10, "0,0.5,1,1,1,0.5")[0]
    assert channels(torch.ones(1, 3, 1, 1)).flatten().tolist() == [1.0, 0.5, 0.0]
    layer = Normalize((0.1,), (0.2,))
    assert build_classifier("cifar_resnet8", 3, layer, "fashion_mnist")[0] is layer


def test_timm_architectures_by_name() -> None:
    model = build_classifier("resnet10t", 7, dataset="fashion_mnist").eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_resnets_begin_as_torchvisions(arch: str) -> None:
    """The published networks were trained from there: no batch norm is zero."""
    torch.manual_seed(0)
    mine = build_classifier(arch, 1000, dataset="imagenet")[1].state_dict()
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(arch).state_dict()
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert mine[key].shape == value.shape
        if value.ndim in (2, 4) or key == "fc.bias":  # drawn: 1,000 numbers and more
            assert mine[key].std().item() == pytest.approx(value.std().item(), rel=0.1), key
            assert abs(mine[key].mean().item()) < 5 * value.std().item() / value.numel() ** 0.5
        else:
            assert torch.equal(mine[key], value), key


def test_networks_of_one_image_size_get_others_resized_inside() -> None:
    model = build_classifier("vit_tiny_patch16_224", 10).eval()
    assert all(key.startswith("1.") for key in model.state_dict())
    x = torch.rand(2, 3, 32, 32)
    large = torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)
    with torch.inference_mode():
        by_hand = model[1](Normalize(CIFAR10.mean, CIFAR10.std)(large))
        torch.testing.assert_close(model(x), by_hand)
    whole = build_classifier("vit_tiny_patch16_224", 10, dataset="imagenet")
    assert isinstance(whole[0], Normalize)


@pytest.mark.parametrize("size", [(48, 40), (16, 16), (32, 32)])
def test_images_of_another_size_are_resized_to_what_a_classifier_was_trained_on(
    classifier_file: Path, size: tuple[int, int]
) -> None:
    checkpoint = read_checkpoint(classifier_file)
    trained = classifier_of(checkpoint, FASHION_MNIST)
    model = classifier_of(checkpoint, FASHION_MNIST, image_shape=(1, *size))
    assert not model.training
    x = torch.rand(2, 1, *size)
    seen = x
    if size != (32, 32):
        seen = torch.nn.functional.interpolate(x, (32, 32), mode="bicubic", antialias=True)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), trained(seen))
    assert isinstance(model[0], Resized) == (size != (32, 32))


def test_unknown_words_are_named() -> None:
    with pytest.raises(ValueError, match=r"'resnet51'.*; near are \w*resnet"):
        build_classifier("resnet51", 10)
    with pytest.raises(ValueError, match="depth must be 6n"):
        build_classifier("cifar_resnet21", 10)
    with pytest.raises(ValueError, match="unknown input layer 'centre': known are"):
        build_classifier("cifar_resnet20", 10, "centre")
    with pytest.raises(ValueError, match=r"unknown input layer '0\.5,0\.5,0\.5'"):
        build_classifier("cifar_resnet20", 10, "0.5,0.5,0.5")
    with pytest.raises(ValueError, match="unknown dataset 'mnist': known are"):
        build_classifier("cifar_resnet20", 10, dataset="mnist")
    with pytest.raises(ValueError, match="stds > 0"):
        Normalize((0.5,), (0.0,))
