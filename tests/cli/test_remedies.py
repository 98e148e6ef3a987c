"""A mistake's line names what helps: the option, by its name, and the file."""

from pathlib import Path

import pytest

from diffsmooth.models.classifiers.dataset_info import DatasetInfo
from diffsmooth.models.classifiers.input_layers import build_input_layer
from diffsmooth.pipeline.purifier_loading import load_purifier
from diffsmooth.pipeline.specification import PurifierOptions
from diffsmooth.stats.errors import UserError


def test_a_denoiser_that_is_not_the_published_one_is_named_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = PurifierOptions(dataset="cifar10")
    with pytest.raises(UserError, match="name one with --diffusion, or") as missing:
        load_purifier(options, 0.5, None)  # type: ignore[arg-type]
    assert "ours" not in str(missing.value)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/cifar10_diffusion.pt").touch()
    assert options.diffusion_source is None  # it is never taken unasked
    with pytest.raises(UserError, match=r"\(checkpoints/cifar10_diffusion.pt is a small U-Net of"):
        load_purifier(options, 0.5, None)  # type: ignore[arg-type]


def test_images_without_a_mean_name_the_option_of_each_command() -> None:
    with pytest.raises(UserError, match="--model.init_args.input_layer none, .* --normalize none"):
        build_input_layer("standard", DatasetInfo("mine", (3, 8, 8), ("a", "b")))
