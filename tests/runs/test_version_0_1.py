"""A run of version 0.1, as its own code left it behind, goes on under this one."""

import json
import shutil
import sys
from pathlib import Path

import adopted
import pytest

from diffsmooth.cli import certify
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.manifest import read_manifest

STORED = Path(__file__).parent / "version_0_1"


def words(classifier: Path, out: Path, *changes: str) -> list[str]:
    return [
        "certify.py", "fashion_mnist_sample", str(classifier), "0.50", str(out), "--purifier",
        "none", "--m", "1", "--local_noise_sd", "0", "--N0", "8", "--N", "30", "--batch", "16",
        "--skip", "200", "--logdir", str(out.parent / "logs"), "--accelerator", "cpu",
        "--no_sanity_check", *changes,
    ]  # fmt: skip


def adopt(out: Path, classifier: Path) -> str:
    precision = resolve_precision("auto", "cpu")
    return adopted.adopt(STORED / "o.manifest.json", out, classifier, precision=precision)


def test_the_digest_of_an_old_identity_is_the_one_in_its_parts_names() -> None:
    manifest = read_manifest(STORED / "o.manifest.json")
    assert manifest is not None
    # By 0.1's own code: `RunIdentity.digest` there.
    assert manifest.digest == "f78bc7cf10242e43"


def test_an_unfinished_run_goes_on(
    tmp_path: Path,
    classifier_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "o.txt"
    text = adopt(out, classifier_file)
    manifest = read_manifest(out.with_suffix(".manifest.json"))
    assert manifest is not None
    lines = (STORED / "o.jsonl").read_text().splitlines(keepends=True)
    parts = tmp_path / "o.parts"
    parts.mkdir()
    (parts / f"{manifest.digest}-rank0-host-1-2.jsonl").write_text("".join(lines[:3]))
    monkeypatch.setattr(sys, "argv", words(classifier_file, out))
    certify.main()
    journal = read_journal(tmp_path / "o.jsonl")
    assert [record.index for record in journal.records] == [0, 200, 400, 600, 800]
    assert [record.origin is None for record in journal.records] == [True] * 3 + [False] * 2
    assert not parts.exists()
    after = json.loads(out.with_suffix(".manifest.json").read_text())
    assert after["identity"] == json.loads(text)["identity"]
    # Asked again it prints its table; of another sigma it is refused.
    capsys.readouterr()
    certify.main()
    assert "average certified radius" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", words(classifier_file, out, "--sigma", "0.25"))
    with pytest.raises(SystemExit) as stopped:
        certify.main()
    assert stopped.value.code == 2
    assert "sigma was 0.5, is 0.25" in capsys.readouterr().err


def test_a_finished_run_whose_labels_are_not_the_datas_is_refused(
    tmp_path: Path,
    classifier_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "o.txt"
    adopt(out, classifier_file)
    shutil.copy(STORED / "o.jsonl", tmp_path)
    monkeypatch.setattr(sys, "argv", words(classifier_file, out))
    certify.main()
    journal = tmp_path / "o.jsonl"
    journal.write_text(journal.read_text().replace('"label":2', '"label":3'))
    with pytest.raises(SystemExit) as stopped:
        certify.main()
    assert stopped.value.code == 2
    assert "image 200 has label 3, but the data give it 2" in capsys.readouterr().err
