"""Tiny networks, data and results that the tests share."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from stripes import write_stripes

from diffsmooth.models import build_classifier, build_unet
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import FASHION_MNIST
from diffsmooth.stats import Results

settings.register_profile("here", deadline=None)  # a busy machine is no failure
settings.load_profile("here")

TINY_UNET = {"channel_mult": (1, 1), "attention_resolutions": ()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    tried_out = os.environ.get("DIFFSMOOTH_GPU_TESTS") == "cpu"
    for item in items:
        if item.get_closest_marker("gpu") and not (tried_out and item.path.parent.name == "gpu"):
            reason = "no CUDA device here (DIFFSMOOTH_GPU_TESTS=cpu tries tests/gpu on the CPU)"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-8 with random weights that votes for more than one class."""
    torch.manual_seed(1)
    model = build_classifier("cifar_resnet8", 10, dataset="fashion_mnist")
    path = tmp_path_factory.mktemp("checkpoints") / "classifier.pt"
    metadata = CheckpointMetadata(
        "classifier",
        "fashion_mnist",
        arch="cifar_resnet8",
        input_layer="standard",
        image_shape=[1, 32, 32],
        class_names=list(FASHION_MNIST.class_names),
        mean=[0.286],
        std=[0.353],
        sigma=0.25,
    )
    write_checkpoint(path, metadata, model.state_dict())
    return path


@pytest.fixture(scope="session")
def unet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-level U-Net with random weights, said to be trained up to sigma 1."""
    torch.manual_seed(2)
    model = build_unet("small-gray32", **TINY_UNET)
    path = tmp_path_factory.mktemp("checkpoints") / "unet.pt"
    metadata = CheckpointMetadata(
        "unet", "fashion_mnist", preset="small-gray32", overrides=TINY_UNET, max_sigma=1.0
    )
    write_checkpoint(path, metadata, model.state_dict())
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of a data set that a tiny network learns in seconds."""
    return write_stripes(tmp_path / "data")


@pytest.fixture
def results() -> Results:
    """Ten images, nine right at 0.1, 0.2 .. 0.9, one abstained; 0.95 was the largest possible."""
    return Results(
        index=np.arange(10),
        label=np.zeros(10, dtype=int),
        prediction=np.array([-1] + [0] * 9),
        radius=np.arange(10) / 10,
        seconds=np.ones(10),
        max_radius=0.95,
    )


@pytest.fixture
def on_grid(results: Results) -> Results:
    """The same, by a plan that decided 0.2, 0.625 and 1.0."""
    return replace(
        results,
        plan="group_sequential",
        grid=(0.2, 0.625, 1.0),
        votes=np.full(10, 300),
        status=np.array(["abstained"] + ["certified"] * 9),
    )
