"""`diffsmooth bench --sections training`."""

import re

import pytest
import torch

from diffsmooth.cli import bench
from diffsmooth.lit.training import DiffusionTraining, GaussianTraining
from diffsmooth.models import build_unet
from diffsmooth.pipeline import bench_training
from diffsmooth.pipeline.bench_training import TRAININGS, Clock, Training


def test_rates_are_printed_and_count_the_steps_that_were_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {**bench_training.UNET, "model_channels": 32, "num_res_blocks": 1}
    kinds = {
        "classifier": Training(GaussianTraining, {"arch": "cifar_resnet8"}, 4),
        "unet": Training(DiffusionTraining, {"preset": "improved-cifar10", "overrides": tiny}, 4),
    }
    clocks: list[Clock] = []

    class Noted(Clock):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds)
            clocks.append(self)

    monkeypatch.setattr(bench_training, "TRAININGS", kinds)
    monkeypatch.setattr(bench_training, "Clock", Noted)
    monkeypatch.setattr(bench_training, "CPU_BATCH", 4)
    bench.main(["--sections", "training", "--accelerator", "cpu", "--seconds", "0.2",
                "--settings", "float32"])  # fmt: skip
    out = capsys.readouterr().out
    found = re.findall(r"^(?:classifier|unet) +([\d,.]+) ", out, re.MULTILINE)
    printed = [float(rate.replace(",", "")) for rate in found]
    assert len(printed) == len(kinds)
    assert printed == [pytest.approx(4 * c.steps / c.took, abs=0.06) for c in clocks]
    assert all(clock.took >= 0.2 for clock in clocks)
    assert "4, " in out


def test_the_unet_has_as_many_weights_as_its_name_says() -> None:
    with torch.device("meta"):
        unet = build_unet("improved-cifar10", **bench_training.UNET)
    assert "U-Net of 7.3 M, averaged" in TRAININGS
    assert 7.25e6 <= sum(p.numel() for p in unet.parameters()) < 7.35e6
