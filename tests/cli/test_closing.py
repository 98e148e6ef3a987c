"""The closing table alone, and as JSON for scripts; results in Lightning's loggers."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from diffsmooth.cli import attack, certify, predict
from diffsmooth.report import read_results
from diffsmooth.stats import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
)

Words = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path, classifier_file: Path) -> Words:
    def build(*changes: str) -> list[str]:
        return [
            "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / "o.txt"),
            "--purifier", "none", "--m", "1", "--sigma_local", "0", "--N", "30", "--batch", "16",
            "--skip", "100", "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu",
            "--no_sanity_check", *changes,
        ]  # fmt: skip

    return build


def test_quiet_prints_the_closing_table_alone(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main([*words(), "--n0", "8", "--quiet"])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("radius   certified accuracy   95 % interval\n")
    assert out.splitlines()[-1].startswith("plan fixed, 38 votes an image")


def test_json_is_all_that_is_on_standard_output(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main([*words(), "--n0", "8", "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert "data: fashion_mnist_sample" in err
    results = read_results(tmp_path / "o.jsonl")
    radii = [point["radius"] for point in said["certified_accuracy"]]
    assert radii[:2] == [0.0, 0.25]
    measured = certified_accuracy(results, radii)
    low, high = certified_accuracy_interval(results, radii).T
    for point, *values in zip(said["certified_accuracy"], measured, low, high, strict=True):
        kept = [None if np.isnan(value) else value for value in values]
        assert [point["accuracy"], point["low"], point["high"]] == kept
    assert said["average_certified_radius"] == average_certified_radius(results)
    assert (said["images"], said["votes"], said["noise"]) == (10, 380, "exact")
    assert said["table"] == str(tmp_path / "o.txt")


def test_predictions_and_attacks_have_a_record_too(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main([*words(), "--n0", "8", "--quiet"])
    capsys.readouterr()
    at = words().index(str(tmp_path / "o.txt"))
    other = words("--json")
    other[at] = str(tmp_path / "p.txt")
    predict.main(other)
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 10
    assert 0 <= said["accuracy"] <= 1 - said["abstained"]
    attacked = [
        str(tmp_path / "o.jsonl"), str(tmp_path / "a.txt"), "--steps", "1", "--max_images", "2",
        "--noise_samples", "2", "--search_votes", "11", "--n", "11", "--budgets", "0.5",
        "--logdir", str(tmp_path / "logs"), "--json",
    ]  # fmt: skip
    attack.main(attacked)
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    assert len(said["tables"]) >= 1


def own_logger(folder: Path, name: str) -> Logger:
    """A logger of another package's."""
    return CSVLogger(folder / "theirs", name=name, version="1")


def test_results_go_to_each_logger_that_is_named(
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "my_loggers", sys.modules[__name__])
    named = ["--logger", "csv", "tensorboard", "my_loggers:own_logger"]
    for _ in range(2):  # a second showing replaces the first
        certify.main([*words(), "--n0", "8", *named])
    (folder,) = (path.parent for path in (tmp_path / "logs").rglob("o/metrics.csv"))
    assert f"curves as numbers: {folder}/metrics.csv\n" in capsys.readouterr().out
    assert list(folder.glob("events.*"))
    assert "sigma: 0.5" in (folder / "hparams.yaml").read_text()
    results = read_results(tmp_path / "o.jsonl")
    for table in (folder / "metrics.csv", folder / "theirs" / "o" / "1" / "metrics.csv"):
        rows = list(csv.DictReader(table.read_text().splitlines()))
        curve = next(name for name in rows[0] if name.endswith("radius)"))
        steps = [int(row["step"]) for row in rows]
        assert steps[:3] == [0, 10, 20]
        measured = certified_accuracy(results, np.array(steps) / 1000)
        assert [float(row[curve]) for row in rows] == pytest.approx(measured)
        average = average_certified_radius(results)
        assert float(rows[0]["average certified radius"]) == pytest.approx(average)


def test_wandb_gets_the_curve_offline_and_says_nothing(words: Words, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    line = [*words(), "--n0", "8", "--json", "--logger", "wandb"]
    done = subprocess.run(  # it would speak as the process ends
        [sys.executable, "-m", "diffsmooth", "certify", *line],
        env={**os.environ, "WANDB_MODE": "offline"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["images"] > 0
    assert "wandb:" not in done.stderr
    assert list((tmp_path / "logs").rglob("offline-run-*/*.wandb"))
    assert not list((tmp_path / "logs").rglob("events.*"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mlflow", "logger must be of tensorboard, csv, wandb, none, or PACKAGE.MODULE:FACTORY"),
        ("no_such_module:factory", "no_such_module"),
    ],
)
def test_an_unknown_logger_is_refused_before_the_votes(
    words: Words, tmp_path: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        certify.main([*words(), "--n0", "8", "--logger", word])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()
