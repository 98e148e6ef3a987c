"""Exact noise wherever the images allow it; what the user or the first start said stays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffsmooth
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.given import GivenImages
from diffsmooth.lit.data.reading import Reading
from diffsmooth.models.smoothing.noise_sources import stored_name
from diffsmooth.pipeline.noise_choice import choose_noise, inexact
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.stats import FixedSampleSize
from diffsmooth.stats.errors import UserError

BYTES = torch.arange(64, dtype=torch.uint8).reshape(4, 1, 4, 4)
PLAN = FixedSampleSize(4, 20, 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two grey pictures each; one of 16 bits."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for n in range(2):
            pixels = np.full((8, 8), 40 * (2 * label + n + 1), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{n}.png")
    deep = np.full((8, 8), 12345, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "own" / "dog" / "1.png")
    return tmp_path / "own"


def given(images: object) -> GivenImages:
    return GivenImages(images, (1, 4, 4), 3)


def test_auto_takes_the_exact_one_for_images_of_8_bits() -> None:
    for images in (BYTES, BYTES.float() / 255, BYTES.numpy() / 255):
        assert choose_noise(None, given(images), range(4), 0.5) == "integer"
    moved = BYTES.float() / 255
    moved[3] += 1e-4
    assert choose_noise(None, given(moved), range(4), 0.5) == "float"
    assert choose_noise(None, given(moved), range(3), 0.5) == "integer"  # those that are asked for
    assert choose_noise(None, given(BYTES), range(4), 9.0) == "float"


@pytest.mark.parametrize("word", ["float", "device"])
def test_what_was_said_stays(word: str) -> None:
    stored = stored_name(word)  # type: ignore[arg-type]
    assert choose_noise(stored, given(BYTES), range(4), 0.5) == word


def test_exact_noise_is_refused_where_it_cannot_be() -> None:
    stored, moved = stored_name("integer"), given(BYTES.float() / 255 + 1e-4)
    with pytest.raises(UserError, match="of 8 bits, which image 0 is not: take noise float"):
        choose_noise(stored, moved, range(4), 0.5)
    with pytest.raises(UserError, match="exact noise has levels to 8, 9 is wanted"):
        choose_noise(stored, given(BYTES), range(4), 9.0)
    with pytest.raises(UserError, match="'numpy-philox4x64, blocks of 16' is not known"):
        choose_noise("numpy-philox4x64, blocks of 16", moved, range(4), 0.5)


def test_a_folders_files_are_looked_at(folder: Path) -> None:
    grey = Reading(channels=1)
    images = load_images(str(folder), reading=grey)
    assert images.off_grid(range(4)) == 3  # it has 16
    assert f"which image 3 ({images.file_name(3)}) is not" in inexact(images, range(4), 0.5)
    assert inexact(images, range(3), 0.5) == ""
    resized = load_images(str(folder), reading=replace(grey, image_size=4))
    assert resized.off_grid(range(4)) is None  # resizing rounds to 8 bits


def test_a_run_keeps_its_noise_when_it_goes_on(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    g = diffsmooth.SmoothedClassifier(
        network, sigma=0.25, num_classes=3, image_shape=(1, 4, 4), batch=8
    )

    def run(out: str, noise: str) -> str:
        journal = str(tmp_path / out)
        diffsmooth.certify(g, BYTES, plan=PLAN, noise=noise, journal=journal, progress=False)  # type: ignore[arg-type]
        manifest = read_manifest(tmp_path / f"{out}.manifest.json")
        assert manifest is not None
        return str(manifest.identity["noise_source"])

    for word in ("integer", "float", "device"):
        assert run(word, word) == run(word, "auto") == stored_name(word)  # type: ignore[arg-type]
    assert run("auto", "auto") == stored_name("integer")
    with pytest.raises(UserError, match=r"belongs to a different run .noise_source was 'integer"):
        run("auto", "float")
