"""The attack command from end to end, with tiny networks."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffsmooth.cli import attack, certify, merge, report
from diffsmooth.lit.attack import AttackedImages
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.images import Sample
from diffsmooth.models.attacks.ball import l2_distance_up
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.rounded_noise import RoundedNoise
from diffsmooth.pipeline import attack_checks
from diffsmooth.pipeline.command_specification import ForecastOptions, ReportOptions
from diffsmooth.pipeline.forecast import forecast
from diffsmooth.pipeline.report import report as make_report
from diffsmooth.runs.attacked import read_attacks
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.line import _checksum
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.stats import (
    Certificate,
    FixedSampleSize,
    ImageRecord,
    certified_radius,
    lower_confidence_bound,
)
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import ATTACK_COLUMNS

Command = Callable[..., None]


def certified_in(folder: Path, *words: str) -> Path:
    """The journal of five images of 30 votes each."""
    certify.main([
        "fashion_mnist_sample", *words, "--sigma", "0.50", "--outfile", str(folder / "run.txt"),
        "--N0", "8", "--N", "30", "--batch", "16", "--skip", "200", "--logdir",
        str(folder / "logs"), "--accelerator", "cpu", "--threads", "1", "--no_sanity_check",
    ])  # fmt: skip
    return folder / "run.jsonl"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, classifier_file: Path) -> Path:
    words = ("--classifier", str(classifier_file), "--purifier", "none", "--m", "1")
    return certified_in(tmp_path_factory.mktemp("run"), *words, "--sigma_local", "0")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    def call(journal: Path, out: str, *changes: str) -> None:
        words = [
            str(journal), str(tmp_path / out), "--budgets", "0.5", "3", "--steps", "2",
            "--noise_samples", "3", "--search_votes", "12", "--max_images", "3", "--N", "24",
            "--check_n", "60", "--rows", "2", "--logdir", str(tmp_path / "logs"),
            "--accelerator", "cpu", "--threads", "1", *changes,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["diffsmooth", "attack", *words])
        attack.main(words)

    return call


def records_of(journal: Path) -> list[ImageRecord]:
    return list(read_journal(journal).records)


def bare(record: ImageRecord) -> tuple[object, ...]:
    """A record without its time."""
    return record.index, record.label, record.certificate, record.error, record.attack


@pytest.mark.slow
def test_a_run_of_attacks(
    run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classifier_file: Path,
    unet_file: Path,
) -> None:
    """Through a purifier and two local copies."""
    words = ("--classifier", str(classifier_file), "--diffusion", str(unet_file), "--m", "2")
    certified = certified_in(tmp_path, *words)
    run(certified, "a.txt")
    out = capsys.readouterr().out
    assert "certified " in out
    assert "0 contradictions" in out
    attacked = {r.index: r.certificate for r in records_of(certified)}
    records = records_of(tmp_path / "a.jsonl")
    assert {r.attack.image for r in records if r.attack} == {0, 400, 800}
    for record in records:
        assert record.attack is not None
        certificate = attacked[record.attack.image]
        assert record.attack.certified == certificate.prediction
        assert record.attack.radius == certificate.radius
        # The image itself lies as far from the rationals that it stands for as float32 rounds.
        assert record.attack.norm <= (record.attack.budget or 1e-6)
        assert record.certificate.n == 24
    # pgd at 0.5 and 3 times the radius and ddn up to 3, where there is one; and as it is.
    for image in (0, 400, 800):
        kinds = [r.attack.method for r in records if r.attack and r.attack.image == image]
        assert kinds == (["", "pgd", "pgd", "ddn"] if attacked[image].radius else [""])
    assert sum(r.certificate.radius > 0 for r in records_of(certified)) > 1
    rows = [line.split("\t") for line in (tmp_path / "a.txt").read_text().splitlines()]
    assert tuple(rows[0]) == ATTACK_COLUMNS
    assert len(rows) == 1 + len(records)
    assert len((tmp_path / "a.flips.tsv").read_text().splitlines()) == 1 + 3
    manifest = read_manifest(tmp_path / "a.manifest.json")
    assert manifest is not None
    assert manifest.identity["command"] == "attack"
    assert not (tmp_path / "a.parts").exists()
    pictures = read_attacks(tmp_path / "a.txt").pictures
    assert pictures
    by_index = {record.index: record for record in records}
    for picture in pictures:
        attack_of = by_index[picture.item].attack
        assert attack_of is not None
        moved = picture.attacked.astype(float) - picture.original.astype(float)
        assert abs(np.linalg.norm(moved) / 255 - attack_of.norm) < 32 / 255
        np.testing.assert_allclose(picture.perturbation - 127.5, picture.scale * moved, atol=60)
    report.main([
        str(certified), "--attacks", str(tmp_path / "a.jsonl"), "--html", str(tmp_path / "a.html"),
        "--figure", str(tmp_path / "a.png"), "--tensorboard", str(tmp_path / "events"),
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert "a: Accuracy of the 3 attacked images" in out
    page = (tmp_path / "a.html").read_text()
    assert 'id="attacks"' in page
    assert page.count('class="attacked"') == len(pictures)
    assert list((tmp_path / "events" / "attacks" / "a").iterdir())


def test_it_goes_on_where_it_stopped_and_says_the_same_again(
    certified: Path, run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(certified, "b.txt")
    said, records = capsys.readouterr().out, records_of(tmp_path / "b.jsonl")
    lines = (tmp_path / "b.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(lines[:3]))
    (tmp_path / "b.txt").unlink()
    run(certified, "b.txt")
    assert [bare(r) for r in records_of(tmp_path / "b.jsonl")] == [bare(r) for r in records]
    again = capsys.readouterr().out
    run(certified, "b.txt")
    for text in (again, capsys.readouterr().out):
        assert text.splitlines()[-8:] == said.splitlines()[-8:]


def test_shards_make_the_same_run(
    certified: Path, run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(certified, "whole.txt")
    for shard in ("1/2", "2/2"):
        run(certified, "parts.txt", "--shard", shard)
    assert "the same command without --shard" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        merge.main([str(tmp_path / "parts.txt")])
    assert "is of attacks" in capsys.readouterr().err
    run(certified, "parts.txt")
    whole, parts = (records_of(tmp_path / f"{name}.jsonl") for name in ("whole", "parts"))
    assert [bare(record) for record in parts] == [bare(record) for record in whole]


def test_images_move_by_what_the_journal_says(
    certified: Path, run: Command, tmp_path: Path
) -> None:
    made: dict[int, tuple[Tensor, Tensor]] = {}
    item = AttackedImages.__getitem__

    def keep(self: AttackedImages, index: int) -> Sample:
        sample = item(self, index)
        made[index] = self.images[self.attack_of(index).image].image, sample.image
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttackedImages, "__getitem__", keep)
        run(certified, "grid.txt", "--grid", "--radii", "0.4", "--methods", "pgd")
    for record in records_of(tmp_path / "grid.jsonl"):
        image, moved = made[record.index]
        assert record.attack is not None
        assert record.attack.norm == l2_distance_up(image, moved, on_grid=True)
        levels = (255 * moved).round()
        assert torch.equal(levels / 255, moved)
    budgets = {r.attack.budget for r in records_of(tmp_path / "grid.jsonl") if r.attack}
    assert 0.4 in budgets


def forged(certified: Path, folder: Path) -> Path:
    """The journal of a copy of the run in which all votes are for another class."""
    lines = [json.loads(line) for line in certified.read_text().splitlines()]
    p_lower = lower_confidence_bound(30, 30, 1e-3)
    for line in lines:
        wrong = (line["selected"] + 1) % 10
        line |= {
            "selection_counts": [[wrong, 8]],
            "estimation_counts": [[wrong, 30]],
            "looks": [[30, 30]],
            "p_lower": p_lower,
            "radius": certified_radius(p_lower, 0.5),
            "status": "certified",
            "prediction": wrong,
            "selected": wrong,
            "correct": line["label"] == wrong,
        }
        del line["checksum"]
        line["checksum"] = _checksum(line)
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = certified.with_name("run.manifest.json")
    (folder / "run.manifest.json").write_bytes(manifest.read_bytes())
    return folder / "run.jsonl"


def test_against_exact_noise_votes_are_rounded(
    certified: Path, run: Command, tmp_path: Path
) -> None:
    """Distances are to rationals, and attacked images get 8 bits."""
    run(certified, "exact.txt", "--max_images", "1", "--methods", "pgd")
    image = load_images("fashion_mnist_sample")[0].image
    records = records_of(tmp_path / "exact.jsonl")
    for record in records:
        assert record.origin is not None
        assert record.origin.noise_source == RoundedNoise.name
    assert records[0].attack is not None
    assert records[0].attack.norm == l2_distance_up(image, image, on_grid=True) > 0


@pytest.mark.slow
def test_two_processes_make_the_same_run(certified: Path, run: Command, tmp_path: Path) -> None:
    run(certified, "one.txt")
    words = [
        str(certified), str(tmp_path / "two.txt"), "--budgets", "0.5", "3", "--steps", "2",
        "--noise_samples", "3", "--search_votes", "12", "--max_images", "3", "--N", "24",
        "--check_n", "60", "--rows", "2", "--logdir", str(tmp_path / "logs"),
        "--accelerator", "cpu", "--threads", "1", "--devices", "2",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "diffsmooth", "attack", *words], check=True)
    one, two = (records_of(tmp_path / f"{name}.jsonl") for name in ("one", "two"))
    assert [bare(record) for record in two] == [bare(record) for record in one]


def test_attack_prediction_and_check_have_noise_of_their_own(
    certified: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, keys = forged(certified, tmp_path), set()
    digest = NoiseKey.digest

    def note(key: NoiseKey, size: int) -> bytes:
        keys.add((key.purpose, key.split))
        return digest(key, size)

    monkeypatch.setattr(NoiseKey, "digest", note)
    with pytest.raises(SystemExit):  # they are found
        run(journal, "f.txt", "--methods", "pgd")
    assert keys == {
        ("probe", ""), ("attack", "test"), ("attack", "test, restart 0"), ("attacked", "test"),
        ("confirm", "test"), ("confirm", "test, as it is"),
    }  # fmt: skip


@pytest.mark.parametrize("another_class", [False, True])
def test_false_certificates_are_found(
    certified: Path,
    run: Command,
    tmp_path: Path,
    another_class: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fresh votes do not confirm them; where fresh certificates are false, too, they contradict."""
    journal = forged(certified, tmp_path)

    if another_class:
        right = attack_checks.run_plan

        def run_plan(*args: Any, **kwargs: Any) -> Certificate:
            certificate = right(*args, **kwargs)
            turned = (certificate.prediction + 1) % 10
            return replace(certificate, prediction=turned) if certificate.radius else certificate

        monkeypatch.setattr(attack_checks, "run_plan", run_plan)
    with pytest.raises(SystemExit) as ended:
        run(journal, "f.txt", "--methods", "pgd")
    assert ended.value.code == 1
    said = capsys.readouterr()
    outcome = "contradiction" if another_class else "certificate not confirmed"
    assert re.search(rf"image \d+: {outcome}", said.err if another_class else said.out)
    if not another_class:
        assert "certificates do not hold, which alpha 0.001 does not explain" in said.err
    with np.load(tmp_path / "f.checks.npz") as flips:
        assert (flips["outcome"] == outcome).any()
        assert (flips["norm"] < flips["radius"]).all()
        assert flips["attacked"].dtype == np.float32


def test_ties_of_an_older_version_are_not_attacked(
    run: Command, tmp_path: Path, classifier_file: Path, unet_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A manifest of 0.2 does not say which class wins a tie: then it was the lowest."""
    journal = certified_in(
        tmp_path, "--classifier", str(classifier_file), "--diffusion", str(unet_file),
        "--purifier", "multistep", "--steps", "2", "--runs", "2", "--m", "1", "--sigma_local", "0",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "run.manifest.json")
    assert manifest is not None
    older = {k: v for k, v in manifest.identity.items() if k != "ties"}
    older_digest = manifest._replace(identity=older).digest
    text = journal.read_text().replace(manifest.digest, older_digest)
    lines = [json.loads(line) for line in text.splitlines()]
    journal.write_text(
        "".join(json.dumps(line | {"checksum": _checksum(line)}) + "\n" for line in lines)
    )
    (tmp_path / "run.manifest.json").write_text(
        (tmp_path / "run.manifest.json").read_text().replace('"ties": "earliest run"', '"x": 1')
    )
    written = json.loads((tmp_path / "run.manifest.json").read_text())
    written["identity"].pop("x")
    (tmp_path / "run.manifest.json").write_text(json.dumps(written))
    with pytest.raises(SystemExit):
        run(journal, "a.txt")
    assert "ties was 'lowest class', is 'earliest run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search_votes", "10"], "search_votes must be at least 11, which answer at alpha 0.001"),
        (["--N", "10"], "N must be at least 11, which answer at alpha 0.001"),
        (["--check_n", "25"], "check_n must be at least 26 for 12 tries"),
        (["--straight_through"], "straight_through is of a purifier's gradient: the run has none"),
    ],
)
def test_what_could_find_nothing_is_refused(
    words: list[str], said: str, certified: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """10 votes of 10 have the two-sided p-value 2 * 0.5**10 = 0.00195."""
    with pytest.raises(SystemExit):
        run(certified, "a.txt", *words)
    assert said in capsys.readouterr().err


def test_mistakes(
    certified: Path,
    run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classifier_file: Path,
) -> None:
    other = tmp_path / "other.pt"
    content = torch.load(classifier_file, weights_only=True)
    name = next(k for k, v in content["state_dict"].items() if v.ndim == 4)
    content["state_dict"][name] += 1e-3
    torch.save(content, other)
    cases = [
        (("m.txt", "--methods", "fgsm"), "methods must be of pgd, ddn, got 'fgsm'"),
        (("m.txt", "--budgets", "1", "1"), "budgets must differ"),
        (("m.txt", "--radii", "-1"), "radii must be > 0"),
        (("m.txt", "--classifier", str(other)), "of another smoothed classifier.*: classifier was"),
        ((str(certified.with_suffix(".txt")),), "overwritten|name of the run"),
    ]
    for words, message in cases:
        with pytest.raises(SystemExit) as ended:
            run(certified, *words)
        assert ended.value.code == 2
        assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.glob("m.*"))


def test_a_manifest_does_not_choose_what_is_run(
    certified: Path,
    run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in certified.parent.glob("run.*"):
        shutil.copy(path, tmp_path)
    manifest = tmp_path / "run.manifest.json"
    text = json.loads(manifest.read_text())
    told = {"context": ["classifier", "dataset", "data_root"],
            "identity": ["purifier", "arch", "plan"]}  # fmt: skip
    for part, name in [(part, name) for part, names in told.items() for name in names]:
        forged = json.loads(json.dumps(text))
        forged[part][name] = "evil_module:thing"
        manifest.write_text(json.dumps(forged))
        # As whoever forges the file would, the journal names the identity that it has now.
        digest = read_manifest(manifest).digest  # type: ignore[union-attr]
        lines = [json.loads(line) for line in certified.read_text().splitlines()]
        for line in lines:
            line["identity"] = digest
            line["checksum"] = _checksum(line)
        journal = tmp_path / "run.jsonl"
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(SystemExit) as ended:
            run(journal, "m.txt")
        assert ended.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        if name != "plan":  # which is no code
            assert f"give --{name} 'evil_module:thing' if you trust it" in line
    assert "evil_module" not in sys.modules
    assert not list(tmp_path.glob("m.*"))


def test_what_a_report_and_a_forecast_do_not_take(
    run: Command, certified: Path, tmp_path: Path
) -> None:
    run(certified, "a.txt")
    attacks = str(tmp_path / "a.jsonl")
    options = ReportOptions(runs=[str(certified)], attacks=[attacks, str(tmp_path / "a.txt")])
    with pytest.raises(UserError, match=r"a\.txt is named twice|a\.jsonl is named twice"):
        make_report(options)
    with pytest.raises(UserError, match="--alpha computes certificates anew"):
        make_report(replace(options, attacks=[attacks], alpha=0.01))
    pilot = ForecastOptions(pilot=attacks, rate=100.0)
    with pytest.raises(UserError, match="is of attacks on a run: the pilot is a run of `certify`"):
        forecast(pilot, FixedSampleSize())
