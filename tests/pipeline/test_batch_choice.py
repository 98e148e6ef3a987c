"""The batch that a run takes of its own accord: by bytes, which are counted without a GPU."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from diffsmooth.cli import certify
from diffsmooth.models import IdentityPurifier, LocalSmoothing, build_unet
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.purifiers import OneShotPurifier, Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline import batch_choice
from diffsmooth.pipeline.batch_choice import chosen_batch, largest_fitting
from diffsmooth.pipeline.work_of_a_batch import bytes_of_batch, flops_a_vote

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Wide(nn.Module):
    """Makes 1,000 numbers of each pixel, and throws them away."""

    def forward(self, x: Tensor) -> Tensor:
        wide = x[..., None] * torch.ones(1000, device=x.device)
        return wide.flatten(1).amax(dim=1, keepdim=True) * torch.ones(3, device=x.device)


class LooksAtValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        shift = 1.0 if x.sum() > 0 else 0.0
        return x.flatten(1)[:, :3] + shift


def voting(
    classifier: nn.Module, m: int = 2, purifier: Purifier | None = None, side: int = 4
) -> VoteFunction:
    local = LocalSmoothing(classifier, m=m, image_shape=(1, side, side))
    return VoteFunction(purifier or IdentityPurifier(), local, 0.5, 3)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_bytes_by_hand(device: torch.device) -> None:
    few, many = (bytes_of_batch(voting(Wide()), rows, device) for rows in (3, 7))
    assert few is not None
    assert many is not None
    # A row: two local copies of 16 pixels of 1,000 numbers in float32, and their sources.
    assert 4 * 2 * 16_000 <= (many - few) / 4 <= 4 * 2 * 16_000 * 1.01


def test_the_copy_within_a_group_norm_is_counted() -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wide = x.expand(-1, 64, -1, -1).contiguous(memory_format=torch.channels_last)
            return nn.functional.group_norm(wide, 32).flatten(1)[:, :3]

    f = voting(Norm(), m=1, side=16)
    f.local_smoothing.layout = torch.channels_last
    few, many = (bytes_of_batch(f, rows, CUDA) or 0 for rows in (4, 8))
    assert (many - few) / 4 >= 3 * 4 * 64 * 16 * 16  # the input, the output and the copy


def unet_f() -> VoteFunction:
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=(16,))
    purifier = OneShotPurifier(unet, get_preset("small-gray32").schedule)
    return voting(nn.Sequential(nn.Flatten(), nn.Linear(1024, 3)), purifier=purifier, side=32)


@pytest.mark.parametrize("memory", [2**31, 3 * 2**30, 8 * 2**30, 80 * 2**30])
def test_the_largest_that_fits(memory: int) -> None:
    f = unet_f()
    rows = largest_fitting(f, CUDA, memory)
    assert rows is not None
    assert rows.bit_count() == 1

    def needed(rows: int) -> float:
        activations = bytes_of_batch(f, rows, CUDA)
        assert activations is not None
        weights = 4 * sum(p.numel() for p in (*f.parameters(), *f.buffers()))
        return 1.25 * activations + 96 * 1024 * rows + weights + 2**30

    assert needed(rows) <= 0.85 * memory
    assert rows == 4096 or needed(2 * rows) > 0.85 * memory


def test_where_not_even_a_row_fits_it_is_one() -> None:
    assert largest_fitting(unet_f(), CUDA, 2**20) == 1


def test_a_network_that_looks_at_values_votes_in_the_usual_batches() -> None:
    f = voting(LooksAtValues())
    assert bytes_of_batch(f, 4, CPU) is None
    assert flops_a_vote(f) is None
    assert largest_fitting(f, CUDA, 2**40) is None


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card(NamedTuple):
        total_memory: int = 80 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card())
    f = voting(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    assert chosen_batch(50, 10_100, f, CPU) == 50
    assert chosen_batch(50, 30, f, CPU) == 30
    assert chosen_batch(50, 10_100, f, CUDA) == batch_choice.LARGEST
    assert chosen_batch(50, 1100, f, CUDA) == 1100
    assert chosen_batch(50, 10_100, voting(LooksAtValues()), CUDA) == 50


@pytest.mark.slow
def test_the_imagenet_pair_fits_80_gigabytes() -> None:
    """On an H100 eager batch 32 did fit, and 128 did not."""
    with torch.device("meta"):  # shapes are all that is asked for
        unet = build_unet("guided-imagenet")
    purifier = OneShotPurifier(unet, get_preset("guided-imagenet").schedule)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256**2, 9))
    local = LocalSmoothing(classifier, 5, 0.25, (3, 256, 256))
    f = VoteFunction(purifier, local, 0.5, 9, copy=False)
    rows = largest_fitting(f, CUDA, 80 * 2**30)
    assert rows in (32, 64)


@pytest.mark.filterwarnings("ignore")
def test_a_run_keeps_the_batch_that_it_was_begun_with(
    tmp_path: Path, classifier_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> bytes:
        certify.main([
            "fashion_mnist_sample", str(classifier_file), "0.5", str(tmp_path / "o.txt"),
            "--purifier", "none", "--skip", "400", "--N0", "4", "--N", "12", "--m", "1",
            "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu", "--no_sanity_check", *words,
        ])  # fmt: skip
        return (tmp_path / "o.jsonl").read_bytes()

    begun = run("--batch", "7")
    assert run() == begun
    assert "batch 7, " in capsys.readouterr().out
    assert json.loads((tmp_path / "o.manifest.json").read_text())["identity"]["batch"] == 7
    with pytest.raises(SystemExit):
        run("--batch", "8")
    assert "batch was 7, is 8" in capsys.readouterr().err
    run("--overwrite")
    assert json.loads((tmp_path / "o.manifest.json").read_text())["identity"]["batch"] == 7
