"""Networks that are no fixed function, or another one than a rank's or an earlier start's, are
refused before anything is written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsmooth.cli import certify, predict, tune
from diffsmooth.models.smoothing import fixed_function
from diffsmooth.models.smoothing.fixed_function import FixedFunction
from diffsmooth.models.smoothing.inference import prepare
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.runs.journal import read_journal

REPOSITORY = Path(__file__).parents[2]
Main = Callable[..., None]


class Before(nn.Module):
    """Does something to the images before a classifier sees them."""

    def __init__(self, change: Callable[[Tensor], Tensor], classifier: nn.Module) -> None:
        super().__init__()
        self.change, self.classifier = change, classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.change(x))


def spoil(monkeypatch: pytest.MonkeyPatch, module: str, change: Callable[[Tensor], Tensor]) -> None:
    """Of the commands' networks: there is no checkpoint of ours that would do it."""

    def spoiled(f: VoteFunction, *how: bool, **more: bool) -> None:
        prepare(f, *how, **more)
        f.local_smoothing.classifier = Before(change, f.local_smoothing.classifier)

    monkeypatch.setattr(f"diffsmooth.{module}.prepare", spoiled)


@pytest.fixture
def words(tmp_path: Path, classifier_file: Path) -> list[str]:
    return [
        "fashion_mnist_sample", str(classifier_file), "0.5", str(tmp_path / "o.txt"),
        "--purifier", "none", "--local_noise_sd", "0.25", "--m", "2", "--N", "30",
        "--batch", "16", "--skip", "400", "--logdir", str(tmp_path / "logs"),
        "--accelerator", "cpu", "--threads", "1", "--no_sanity_check", "--precision", "float32",
    ]  # fmt: skip


@pytest.mark.parametrize("main", [certify.main, predict.main], ids=["certify", "predict"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x - x.mean(dim=0), "what the classifier makes of one depends on the other rows"),
        (lambda x: nn.functional.dropout(x, 0.1), "gave other numbers for the same batch"),
    ],
    ids=["batch mean", "dropout"],
)
def test_it_is_refused_and_nothing_is_written(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Main,
    change: Callable[[Tensor], Tensor],
    message: str,
) -> None:
    spoil(monkeypatch, "pipeline.job", change)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("o*"))


@pytest.mark.parametrize("options", [[], ["--in_flight", "1"]], ids=["", "one at a time"])
def test_one_that_changes_as_it_is_called_gives_no_table(
    options: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = 0

    def change(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x if calls <= 20 else -x  # the check before the first vote takes fewer

    spoil(monkeypatch, "pipeline.job", change)
    with pytest.raises(SystemExit) as stopped:
        certify.main([*words, *options])
    assert stopped.value.code == 2
    assert "it changes as it is called" in capsys.readouterr().err
    assert not (tmp_path / "o.txt").exists()
    # What the changed one voted is nothing to go on from.
    assert not [part for part in tmp_path.glob("o.parts/*.jsonl") if part.stat().st_size]


def test_tune_refuses_it(
    classifier_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(monkeypatch, "pipeline.tune", lambda x: x - x.mean(dim=0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(40) % 10)
    with pytest.raises(SystemExit) as stopped:
        tune.main([
            "fashion_mnist", str(classifier_file), "0.5", str(tmp_path / "o.yaml"),
            "--data_root", str(tmp_path), "--purifier", "none", "--validation_images", "20",
            "--images", "2", "--N", "20", "--radius", "0.2", "--m", "1", "2", "--sigma_local",
            "0.1", "--accelerator", "cpu", "--no_sanity_check",
        ])  # fmt: skip
    assert stopped.value.code == 2
    assert "depends on the other rows" in capsys.readouterr().err
    assert not list(tmp_path.glob("o*"))


def test_rounding_is_said_and_stands_in_the_manifest(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def rounding(x: Tensor) -> Tensor:
        row = torch.arange(len(x)) // 2  # of two local copies
        odd = (row % 2 == 1).view(-1, 1, 1, 1)
        return torch.where(odd, (x + 0.1) + 0.3, x + (0.1 + 0.3))

    spoil(monkeypatch, "pipeline.job", rounding)
    certify.main(words)
    assert "by rounding: their mean softmax by" in capsys.readouterr().out
    (probe,) = json.loads((tmp_path / "o.manifest.json").read_text())["context"]["probes"]
    assert 0 < probe["rounding"] < 1e-4


def test_a_start_whose_networks_compute_something_else_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main(words)
    manifest, table = tmp_path / "o.manifest.json", (tmp_path / "o.txt").read_text()
    stored = json.loads(manifest.read_text())
    (probe,) = stored["context"]["probes"]
    assert probe["rounding"] == 0
    assert len(probe["inputs"]) == len(probe["outputs"]) == 64

    def interrupt(**changes: object) -> None:
        """As if the run had been stopped before its first image, elsewhere."""
        (tmp_path / "o.txt").unlink()
        (tmp_path / "o.jsonl").unlink()
        stored["context"]["probes"] = [probe | changes]
        manifest.write_text(json.dumps(stored))

    interrupt(outputs="0" * 64)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        certify.main(words)
    assert stopped.value.code == 2
    assert "computed other numbers from the same batch when the run was begun" in (
        capsys.readouterr().err
    )
    assert json.loads(manifest.read_text()) == stored
    certify.main([*words, "--overwrite"])
    assert json.loads(manifest.read_text())["context"]["probes"] == [probe]
    for changes in ({"device": "another", "outputs": "0" * 64}, {"inputs": "0" * 64}):
        interrupt(**changes)
        certify.main(words)
        both = json.loads(manifest.read_text())["context"]["probes"]
        assert both == [probe | changes, probe]
    assert [row.split("\t")[:5] for row in (tmp_path / "o.txt").read_text().splitlines()] == [
        row.split("\t")[:5] for row in table.splitlines()
    ]
    interrupt()
    stored["context"]["probes"] = [{"device": 1}]
    manifest.write_text(json.dumps(stored))
    with pytest.raises(SystemExit):
        certify.main(words)
    assert "broken" in capsys.readouterr().err
    del stored["context"]["probes"]  # an older version's
    manifest.write_text(json.dumps(stored))
    certify.main(words)
    assert json.loads(manifest.read_text())["context"]["probes"] == [probe]


def test_a_run_is_checked_once_and_a_finished_one_no_more(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked = []

    def check(*arguments: Any) -> FixedFunction:
        checked.append(arguments)
        return whole(*arguments)

    whole = fixed_function._check
    monkeypatch.setattr(fixed_function, "_check", check)
    certify.main(words)
    assert len(checked) == 1
    records = read_journal(tmp_path / "o.jsonl").records
    spoil(monkeypatch, "pipeline.job", lambda x: x - x.mean(dim=0))
    certify.main(words)
    assert read_journal(tmp_path / "o.jsonl").records == records
    assert len(checked) == 1


LAUNCHER = """
import os
from torch import nn
from diffsmooth.cli import certify
from diffsmooth.pipeline import job
from diffsmooth.lit.certification import run_keeper
from diffsmooth.models.smoothing.inference import prepare

def other(f, *how):
    prepare(f, *how)
    if os.environ.get("LOCAL_RANK") == "1":
        {change}

job.prepare = other
certify.main()
"""
FACTOR = "f.local_smoothing.classifier[1].fc.weight.data *= 1.001"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (FACTOR, 2, "ranks 0 and 1 compute other numbers from the same batch, both on"),
        (
            FACTOR + "; run_keeper.device_name = lambda device: 'another machine'",
            0,
            "(rank 0) and another machine (rank 1) round differently",
        ),
        (
            "f.local_smoothing.classifier.append(nn.Dropout(0.5).train())",
            2,
            "rank 1: f is not one fixed function: the classifier gave other numbers",
        ),
    ],
    ids=["same hardware", "other hardware", "random"],
)
def test_ranks_that_compute_something_else_are_told(
    words: list[str], tmp_path: Path, change: str, code: int, message: str
) -> None:
    script = tmp_path / "launch.py"
    script.write_text(LAUNCHER.format(change=change))
    done = subprocess.run(
        [sys.executable, str(script), *words, "--devices", "2"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert message in (done.stderr if code else done.stdout)
    assert (tmp_path / "o.txt").exists() == (code == 0)
    assert code == 0 or not list(tmp_path.glob("o*"))
    if code == 0:
        probes = json.loads((tmp_path / "o.manifest.json").read_text())["context"]["probes"]
        assert [probe["device"] == "another machine" for probe in probes] == [False, True]
