"""`diffsmooth visualize`: its files, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffsmooth.cli import visualize
from diffsmooth.lit.data import load_images
from diffsmooth.models.checkpoints.denoisers import load_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.noise import NoiseKey, draw_noise
from diffsmooth.models.smoothing.purifiers import OneShotPurifier
from diffsmooth.report import image_grid as grids
from diffsmooth.report.image_grid import GridRow


def call(unet: Path, outfile: Path, *more: str) -> None:
    words = ["fashion_mnist_sample", str(outfile), "--diffusion", str(unet), "--accelerator", "cpu"]
    visualize.main([*words, *more])


@pytest.mark.parametrize(
    ("ending", "beginning"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_the_ending_says_what_is_written(
    unet_file: Path, tmp_path: Path, ending: str, beginning: bytes
) -> None:
    outfile = tmp_path / "new" / f"grid{ending}"
    call(unet_file, outfile, "--images", "0", "999", "--sigma", "0.5", "1")
    assert outfile.read_bytes().startswith(beginning)
    assert [path.name for path in outfile.parent.iterdir()] == [outfile.name]


def test_the_pictures_are_those_of_the_purifier(
    unet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[GridRow] = []
    real = grids.image_grid
    monkeypatch.setattr(grids, "image_grid", lambda rows, s: (seen.extend(rows), real(rows, s))[1])
    more = ["--images", "950", "3", "--sigma", "0.25", "0.5", "--precision", "float32"]
    call(unet_file, tmp_path / "o.png", *more)
    images = load_images("fashion_mnist_sample")
    purifier = OneShotPurifier(load_unet(unet_file), get_preset("small-gray32").schedule)
    assert [(row.index, row.class_name) for row in seen] == [
        (950, "Ankle boot"), (3, "T-shirt/top"),
    ]  # fmt: skip
    for row in seen:
        image = images[row.index].image
        assert np.array_equal(row.original, image.numpy())
        noise = draw_noise(
            NoiseKey(0, "doctor", images.info.name, "test", row.index), 1, (1, 32, 32)
        )
        for sigma, pair in zip((0.25, 0.5), row.pairs, strict=True):
            noisy = image + sigma * noise
            assert np.allclose(pair.noisy, noisy[0].numpy(), atol=1e-6)
            with torch.inference_mode():
                assert pair.purified is not None
                assert np.allclose(pair.purified, purifier(noisy, sigma)[0].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "more",
    [
        ["--purifier", "none", "--sigma", "3"],
        ["--purifier", "multistep", "--steps", "3", "--sigma", "0.5"],
        ["--split", "train", "--sigma", "0.5", "--pad", "reflect"],
    ],
    ids=["none", "multistep", "train"],
)
def test_other_purifiers_and_splits(
    unet_file: Path, tmp_path: Path, root: Path, more: list[str]
) -> None:
    outfile = tmp_path / "o.png"
    words = ["fashion_mnist", str(outfile), "--data_root", str(root), "--accelerator", "cpu"]
    if "none" not in more:
        words += ["--diffusion", str(unet_file)]
    visualize.main([*words, *more])
    with Image.open(outfile) as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("o.png", ["--images", "0", "1000"], "image 1000 is beyond fashion_mnist_sample"),
        ("o.png", ["--images", "-1"], "image -1 is beyond"),
        ("o.png", ["--sigma", "0.5", "2"], "sigma 2.0 is beyond what"),
        ("o.png", ["--sigma", "0"], "sigma must be > 0 and finite, got 0.0"),
        ("o.gif", [], "its name must end in .png or .pdf or .svg"),
        ("o", [], "its name must end in"),
        ("o.png", ["--steps", "3"], "steps is of purifier multistep"),
        ("o.png", ["--split", "train"], "holds test images only"),
        ("o.png", ["--diffusion", "nowhere.pt"], "no such checkpoint"),
    ],
)
def test_mistakes_are_one_line(
    unet_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    out: str,
    more: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(unet_file, tmp_path / out, *more)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
