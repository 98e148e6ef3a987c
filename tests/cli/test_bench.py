"""The benchmark, the forecast, and the choice to compile."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffsmooth.cli import bench, forecast
from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    build_classifier,
    build_unet,
)
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline import bench as measures
from diffsmooth.pipeline import bench_contestants
from diffsmooth.pipeline.bench_process import in_processes
from diffsmooth.pipeline.device import choose_compile
from diffsmooth.pipeline.work_of_a_batch import flops_a_vote
from diffsmooth.runs.journal import append_record
from diffsmooth.stats import GroupSequential, ImageRecord

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.mark.slow
def test_the_benchmark_runs_and_its_float32_votes_are_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(bench_contestants, "AGREEMENT_IMAGES", 5)
    monkeypatch.setattr(
        measures, "MATRIX_SIDES", {"cpu": 64}
    )  # bf16 takes minutes where it is emulated
    bench.main(
        ["--sections", "speed", "sequential", "--workloads", "cohen", "--settings", "plain",
         "float32", "--batch", "10", "--repetitions", "1", "--seconds", "0.05", "--images", "3",
         "--N", "500", "--accelerator", "cpu", "--loop_batch", "5", "10", "--profile",
         "--json", str(tmp_path / "found.json")]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert "(a) published loop" in out
    assert out.count("100.00 % of 250") >= 1
    assert "3 shipped images" in out
    assert re.search(
        r": [\d,]+ \+- [\d,]+ votes an image on average \(\+- the standard error\)", out
    )
    assert "tf32" not in out  # switches of CUDA's
    found = json.loads((tmp_path / "found.json").read_text())
    by_kind = {kind: [one for one in found if one["record"] == kind] for kind in KINDS}
    assert [one["batch"] for one in by_kind["LoopRate"]] == [5, 10]
    assert max(one["ratio"] for one in by_kind["LoopRate"]) == 1
    assert [one["setting"] for one in by_kind["EngineRate"]] == ["plain", "float32"]
    assert by_kind["Subject"][0]["gflop"] == pytest.approx(RESNET20_GFLOP, rel=0.01)
    (peak,) = by_kind["MatrixPeak"]
    for one in by_kind["NetworkRate"]:
        assert one["network"] == "classifier"
        assert one["gflops"] == pytest.approx(one["gflop"] / one["milliseconds"] * 1e3)
        assert one["share"] == pytest.approx(one["gflops"] / peak["gflops"])
    for setting in ("plain", "float32"):
        shares = {one["kind"]: one["share"] for one in by_kind["WorkShare"]
                  if one["setting"] == setting}  # fmt: skip
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["convolutions"] > 0.1
        assert shares["noise"] > 0


KINDS = ("MatrixPeak", "Subject", "LoopRate", "EngineRate", "NetworkRate", "WorkShare")
# Multiplications of a ResNet-20 on one channel of 32 x 32, twice: by hand, with its shortcuts.
RESNET20_GFLOP = 2 * (
    9 * 16 * 32**2 + 6 * 9 * 16**2 * 32**2
    + (9 * 16 * 32 + 5 * 9 * 32**2) * 16**2 + 16 * 32 * 16**2
    + (9 * 32 * 64 + 5 * 9 * 64**2) * 8**2 + 32 * 64 * 8**2
    + 640
) / 1e9  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "0"], "batch must be at least 1"),
        (
            ["--workloads", "huge"],
            "workloads must be of full, small, cohen, resnet110, imagenet, got 'huge'",
        ),
        (["--batch", "all"], "batch"),
        (["--loop_batch", "0"], "loop_batch must be at least 1"),
        (["--json", "/dev/null/found.json"], "/dev/null is not a folder"),
        (["--noise", "white"], "noise must be integer, float or device"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_has_a_peak_of_its_own() -> None:
    np.ones(2**28)  # 2 GiB that were the caller's for a moment
    ((_, peak),) = in_processes("cohen", "float32", 4, 4, 1)
    assert 2**27 < peak < 2**31


PILOT = str(REPOSITORY / "docs/studies/fashion_mnist/diffsmooth.jsonl")


def test_a_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    forecast.main([PILOT, "--rate", "100", "--images", "40", "--plan", "fixed", "--N", "3500"])
    out, err = capsys.readouterr()
    assert "fixed: 3,600 +- 0 votes an image on average" in out
    assert not err
    one, eight, *_ = [line.split() for line in out.splitlines()[4:]]
    # 40 images of 3,600 votes at 100 a second
    assert one == ["1", *2 * ["0.4", "+-", "0", "1.000", "+-", "0.000"], "0.4"]
    assert eight == ["8", *2 * ["0.05", "+-", "0", "1.000", "+-", "0.000"], "0.05"]
    for words, message in (
        (["nowhere.jsonl", "--rate", "1"], "nowhere.jsonl: no such file"),
        ([PILOT, "--rate", "0"], "rate must be > 0"),
        ([PILOT, "--rate", "1", "--devices", "0"], "devices must be at least 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            forecast.main(words)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_a_forecast_says_its_errors_and_where_the_pilot_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [PILOT, "--rate", "100", "--images", "100", "--devices", "2"]
    forecast.main(words)
    out, err = capsys.readouterr()
    mean, error = re.findall(r"^group_sequential: ([\d,]+) \+- ([\d,]+) votes", out)[0]
    # As 500 images of a pilot can tell it; a single draw of 500 was between 15,000 and 20,000.
    assert 16_000 < int(mean.replace(",", "")) < 19_000
    assert 300 < int(error.replace(",", "")) < 900
    assert "by 500 images of the pilot and by what their votes leave open; each played 200" in out
    assert "means of 1,000 simulated runs of 100 images" in out
    (line,) = err.splitlines()
    # sigma * Phi^-1(0.001 ** (1 / 1000)) and log(0.001) / log(Phi(1.5 / sigma))
    assert "radius 1.50 is beyond what this pilot tells" in line
    assert "nothing above radius 1.231" in line
    assert "a pilot of N = 5,114 or more would tell" in line
    forecast.main([*words, "--radii", "0", "0.5", "1"])
    assert not capsys.readouterr().err


def test_a_forecast_takes_the_pilots_radii_and_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = GroupSequential(n0=10, n=200, radii=(0.1, 0.3))
    for index in range(30):
        run = plan.start(0.5, 10)
        while run.wanted:
            lost = run.wanted * index // 100
            run.update(np.array([run.wanted - lost, lost, *8 * [0]]))
        record = ImageRecord(index, 0, 1.0, run.certificate)
        append_record(tmp_path / "p.jsonl", record)
    table = tmp_path / "p.txt"
    table.touch()
    said = []
    for words in ((), ("--radii", "0.1", "0.3"), ("--radii", "0.1", "1")):
        forecast.main([str(table), "--rate", "1", "--N", "1000", "--images", "9", *words])
        said.append(capsys.readouterr().out)
    assert said[0] == f"radii 0.10 0.30, as the pilot's\n{said[1]}"
    assert said[1] != said[2]
    (tmp_path / "p.jsonl").unlink()
    with pytest.raises(SystemExit):
        forecast.main([str(table), "--rate", "1"])
    assert "p.txt: has no journal beside it, and a table has no votes" in capsys.readouterr().err


def smoothed() -> VoteFunction:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    local = LocalSmoothing(classifier, m=2, image_shape=(1, 4, 4))
    return VoteFunction(IdentityPurifier(), local, 0.5, 3)


def test_the_operations_of_a_vote_by_hand() -> None:
    assert flops_a_vote(smoothed()) == 2 * (2 * 16 * 3)  # two copies through one linear layer


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_operations_of_the_shapes_are_those_of_a_real_vote(precision: str) -> None:
    schedule = get_preset("small-gray32").schedule
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=(16,))
    purifier = MultiStepPurifier(unet, schedule, steps=3, runs=2)
    classifier = build_classifier("cifar_resnet8", 10, dataset="fashion_mnist")
    local = LocalSmoothing(classifier, m=2, image_shape=(1, 32, 32))
    f = VoteFunction(purifier, local, 0.5, 10, precision=precision)
    noisy = torch.zeros(1, 1, 32, 32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        f.answer(noisy, lambda run: torch.zeros(2, 1, 1, 32, 32))
    assert flops_a_vote(f) == counter.get_total_flops() > 10**6


def test_the_users_word_goes_first_and_else_the_votes_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffsmooth.pipeline.device.can_compile", lambda device: "")
    monkeypatch.setattr("diffsmooth.pipeline.device.WORTH_COMPILING", {"cpu": 192 * 1000})
    f = smoothed()
    assert choose_compile(None, f, CPU, votes=1000)
    assert not choose_compile(None, f, CPU, votes=999)
    assert choose_compile(True, f, CPU, votes=1)
    assert not choose_compile(False, f, CPU, votes=10**9)
    monkeypatch.setattr("diffsmooth.pipeline.device.can_compile", lambda device: "no compiler")
    assert not choose_compile(None, f, CPU, votes=10**9)
    with pytest.raises(ValueError, match="compile: not possible here: no compiler"):
        choose_compile(True, f, CPU, votes=1)
