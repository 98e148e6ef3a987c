"""Certificates of classifiers that are known, through the whole command line.

A certificate may overstate with probability alpha, and no more: how many do is held against
Binomial(M, alpha), and where the chance is known exactly, against that.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import known_truth
import numpy as np
import pytest
from known_truth import SIGMA, Truth
from scipy.stats import beta, binom, binomtest, norm

from diffsmooth.cli import certify, verify
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.stats import ImageRecord, reanalyse

REPOSITORY = Path(__file__).parents[2]
ALPHA, N0, N = 0.05, 10, 100
RARE = 1e-4  # so seldom does a test fail by chance
SEQUENTIAL = ["--plan", "group_sequential", "--first_look", "20"]
PLANS = {
    "fixed": [],
    "grid": [*SEQUENTIAL, "--radii", "0.05", "0.15", "0.3"],
    "tolerance": [*SEQUENTIAL, "--tolerance", "0.2"],
    "label_aware": [*SEQUENTIAL, "--radii", "0.1", "0.25", "--label_aware"],
}
TRUTHS = {"half_space": known_truth.half_space, "ball": known_truth.ball}
Run = Callable[..., Sequence[ImageRecord]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Certifies images of a known classifier; the records."""

    def call(
        truth: Truth, plan: str, noise: str, images: int, processes: int = 1
    ) -> Sequence[ImageRecord]:
        data, weights = known_truth.write(truth, tmp_path, images)
        words = [
            str(data), truth.factory, str(SIGMA), str(tmp_path / "o.txt"), "--weights",
            str(weights), "--purifier", "none", "--m", "1", "--local_noise_sd", "0", "--skip", "1",
            "--N0", str(N0), "--N", str(N), "--alpha", str(ALPHA), "--batch", "1000", "--noise",
            noise, "--precision", "float32", "--threads", "1", "--accelerator", "cpu",
            "--no_sanity_check", "--logdir", str(tmp_path / "logs"), *PLANS[plan],
        ]  # fmt: skip
        if processes == 1:
            certify.main(words)
        else:
            subprocess.run(
                [sys.executable, "-m", "diffsmooth", "certify", *words, "--devices", "2"],
                check=True, capture_output=True, cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
            )  # fmt: skip
        manifest = read_manifest(tmp_path / "o.manifest.json")
        assert manifest is not None
        assert manifest.identity["noise_source"].startswith("integer") == (noise == "integer")
        assert manifest.context["devices"] == processes
        verify.main([str(tmp_path / "o.txt")])
        return read_journal(tmp_path / "o.jsonl").records

    return call


def chances(records: Sequence[ImageRecord], truth: Truth) -> np.ndarray:
    """The probability of the class that each record selected, float64 (M,)."""
    exact = all(
        r.origin is not None and r.origin.noise_source.startswith("integer") for r in records
    )
    of_class_1 = truth.probabilities(exact)[[r.index % len(truth.bases) for r in records]]
    selected = np.array([record.certificate.selected for record in records])
    return np.where(selected == 1, of_class_1, 1 - of_class_1)


def beyond(records: Sequence[ImageRecord], p: np.ndarray) -> np.ndarray:
    """Whether each radius is larger than the truth allows, bool (M,)."""
    radius = np.array([record.certificate.radius for record in records])
    return (radius > 0) & (radius > SIGMA * norm.ppf(p))


def check(records: Sequence[ImageRecord], truth: Truth, least: int) -> int:
    """How many radii are beyond the truth, which is not more than alpha may explain."""
    estimated = [record for record in records if record.certificate.looks]
    assert len(estimated) >= least
    failed = int(beyond(estimated, chances(estimated, truth)).sum())
    assert binomtest(failed, len(estimated), ALPHA, alternative="greater").pvalue > RARE
    return failed


def expected_failures(p: np.ndarray) -> np.ndarray:
    """The chance that the fixed plan's radius is beyond the truth, for each p: float64 (M,)."""
    counts = np.arange(1, N)
    bounds = np.append(beta.ppf(ALPHA, counts, N - counts + 1), ALPHA ** (1 / N))
    fewest = 1 + np.searchsorted(bounds, np.maximum(p, 0.5), "right")
    return np.asarray(binom.sf(fewest - 1, N, p))


def check_exactly(records: Sequence[ImageRecord], truth: Truth) -> None:
    """The fixed plan overstates as often as computed, not more and not less."""
    p = chances(records, truth)
    failed, each = beyond(records, p).sum(), expected_failures(p)
    deviation = (failed - each.sum()) / np.sqrt((each * (1 - each)).sum())
    assert abs(deviation) < norm.isf(RARE / 2)


@pytest.mark.parametrize("classifier", TRUTHS)
def test_radii_beyond_the_truth_are_as_many_as_alpha_explains(classifier: str, run: Run) -> None:
    """A short form of what follows."""
    truth = TRUTHS[classifier]()
    records = run(truth, "fixed", "integer", 300)
    check(records, truth, 300)
    check_exactly(records, truth)


MANY = 3600  # images, of which label-aware plans skip some
NOISES = ("integer", "float", "device")
# Each plan with each noise, of one classifier or the other; and by two processes.
CASES = [
    (list(TRUTHS)[(row + column) % 2], plan, noise, 1)
    for row, plan in enumerate(PLANS)
    for column, noise in enumerate(NOISES)
] + [("ball", "fixed", "integer", 2), ("half_space", "grid", "float", 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("classifier", "plan", "noise", "processes"), CASES)
def test_of_thousands_of_radii_no_more_are_beyond_the_truth_than_alpha_explains(
    classifier: str, plan: str, noise: str, processes: int, run: Run
) -> None:
    truth = TRUTHS[classifier]()
    records = run(truth, plan, noise, MANY, processes)
    failed = check(records, truth, 3000)
    assert failed > 0.1 * ALPHA * len(records)  # it can be seen
    if plan == "fixed":
        check_exactly(records, truth)
        # What it would be with a bound that is wrong.
        doubled = [
            ImageRecord(r.index, r.label, r.seconds, reanalyse(r.certificate, 2 * ALPHA))
            for r in records
        ]
        with pytest.raises(AssertionError):
            check(doubled, truth, 3000)
