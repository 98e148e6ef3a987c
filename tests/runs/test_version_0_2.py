"""Of runs of several steps that 0.2 began, those of one reverse run a vote go on here.

The manifests are as its own code wrote them. With several reverse runs a vote, it gave ties to the
lowest class.
"""

import json
import sys
from pathlib import Path
from typing import Any

import adopted
import pytest

from diffsmooth.cli import certify
from diffsmooth.runs.identity import RunIdentity
from diffsmooth.whole_file import file_sha256

STORED = Path(__file__).parent / "version_0_2"


def stored(runs: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((STORED / f"runs{runs}.manifest.json").read_text())
    return content


def certify_with(
    runs: int, out: Path, classifier: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "certify.py", "fashion_mnist_sample", str(classifier), "0.50", str(out), "--diffusion",
        str(unet), "--purifier", "multistep", "--steps", "2", "--runs", str(runs), "--m", "1",
        "--local_noise_sd", "0", "--N0", "4", "--N", "12", "--batch", "16", "--skip", "500",
        "--logdir", str(out.parent / "logs"), "--accelerator", "cpu", "--no_sanity_check",
        "--precision", "float32", "--threads", "1", "--compile", "false",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    certify.main()


def adopt(runs: int, out: Path, classifier: Path, unet: Path) -> str:
    file = STORED / f"runs{runs}.manifest.json"
    return adopted.adopt(file, out, classifier, diffusion=file_sha256(unet))


def test_a_run_of_one_reverse_run_a_vote_goes_on(
    tmp_path: Path, classifier_file: Path, unet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.txt"
    text = adopt(1, out, classifier_file, unet_file)
    certify_with(1, out, classifier_file, unet_file, monkeypatch)
    assert len(out.read_text().splitlines()) == 3
    after = json.loads(out.with_suffix(".manifest.json").read_text())
    assert after["identity"] == json.loads(text)["identity"]


def test_a_run_of_several_is_refused_for_its_ties(
    tmp_path: Path,
    classifier_file: Path,
    unet_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "o.txt"
    text = adopt(2, out, classifier_file, unet_file)
    with pytest.raises(SystemExit) as stopped:
        certify_with(2, out, classifier_file, unet_file, monkeypatch)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "different run (ties was 'lowest class', is 'earliest run')" in line
    assert out.with_suffix(".manifest.json").read_text() == text


def test_what_is_merged_of_an_old_run_keeps_its_rule() -> None:
    one, two = (RunIdentity.from_stored(stored(runs)["identity"]) for runs in (1, 2))
    assert (one.ties, two.ties) == ("", "lowest class")
    for identity, runs in ((one, 1), (two, 2)):
        assert identity.difference(stored(runs)["identity"]) == ""
