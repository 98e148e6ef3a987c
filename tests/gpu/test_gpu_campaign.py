"""The campaign on a GPU: a part that fails or hangs is said, and keeps no other from its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_campaign import REPOSITORY, Outcome, Part, run
from gpu_page import page_of

HANGS = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"


def test_parts_end_within_their_time_whatever_the_others_do(tmp_path: Path) -> None:
    parts = [
        Part("hangs", ("-c", HANGS), 2.0),
        Part("fails", ("-c", "print('no such thing'); raise SystemExit(3)"), 60.0),
        Part("ends", ("-c", "print('done')"), 60.0),
    ]
    found: dict[str, Outcome] = {}
    begun = time.monotonic()
    run(parts, tmp_path, begun + 60, lambda outcome: found.update({outcome.part.name: outcome}))
    assert time.monotonic() - begun < 50
    assert {name: one.code for name, one in found.items()} == {"hangs": None, "fails": 3, "ends": 0}
    assert found["hangs"].how == f"stopped after {found['hangs'].seconds:.0f} s"
    assert (tmp_path / "ends.log").read_text() == "done\n"
    run(parts[2:], tmp_path, time.monotonic() + 1, lambda one: found.update({"late": one}))
    assert found["late"].how == "not begun: no time left"


SELF_TEST = """self-test on some card
agrees   improved U-Net                             by 3.0e-06 (at most 2e-04)
DIFFERS  ResNet-20                                  by 5.0e-01 (at most 2e-04)
agrees   votes of image 0                           by 0.0e+00 (at most 2e-03)
1 results DIFFER from the stored ones: do not trust this setting's certificates
"""
TESTS = """tests/gpu/test_x_on_gpu.py::test_one[a] PASSED   [ 33%]
tests/gpu/test_x_on_gpu.py::test_two FAILED              [ 66%]
tests/gpu/test_x_on_gpu.py::test_three SKIPPED (no such)  [100%]
SKIPPED [1] tests/gpu/test_x_on_gpu.py:7: no such
FAILED tests/gpu/test_x_on_gpu.py::test_two - assert 1 == 2
"""
RECORDS = [
    {"record": "Machine", "device": "some card"},
    {"record": "MatrixPeak", "precision": "bf16", "dtype": "torch.bfloat16", "side": 8192,
     "gflops": 700_000.0},
    {"record": "Subject", "workload": "full", "title": "CIFAR", "gflop": 19.3},
    {"record": "LoopRate", "batch": 50, "votes_per_second": 400.0, "ratio": 1.0},
    {"record": "EngineRate", "setting": "bf16", "batch": 2048, "votes_per_second": 4500.0,
     "ratio": 11.25, "outside": 0.01, "agreement": ""},
    {"record": "RowBits", "setting": "bf16", "exact": False, "found": "rows depend"},
    {"record": "NetworkRate", "setting": "bf16", "network": "purifier", "milliseconds": 0.19,
     "gflop": 16.8, "gflops": 88_000.0, "share": 0.1257},
    {"record": "WorkShare", "setting": "bf16", "kind": "norms", "milliseconds": 0.25, "share": 1.0},
    {"record": "LeftOut", "what": "compiled at batch 4096", "reason": "out of memory"},
]  # fmt: skip
TRAININGS = [
    {"record": "TrainingRate", "training": name, "batch": 512, "precision": "bf16-mixed",
     "compiled": compiled, "images_per_second": rate}
    for name, compiled, rate in (("ResNet-110, Gaussian", True, 7500.0), ("another", False, 10.0))
]  # fmt: skip


def test_the_page_says_what_agrees_and_what_does_not(tmp_path: Path) -> None:
    (tmp_path / "self_test_bf16.log").write_text(SELF_TEST)
    (tmp_path / "test_x_on_gpu.log").write_text(TESTS)
    (tmp_path / "bench_full.json").write_text(json.dumps(RECORDS))
    (tmp_path / "bench_imagenet.log").write_text("it went wrong\n")
    (tmp_path / "trainings.json").write_text(json.dumps(TRAININGS))
    codes = {
        "trainings": 0,
        "self_test_bf16": 1,
        "test_x_on_gpu": 1,
        "bench_full": None,
        "bench_imagenet": 2,
    }
    outcomes = [Outcome(Part(name, (), 1.0), code, 9.0) for name, code in codes.items()]
    page = page_of(outcomes, tmp_path, 123.0)
    assert not page.agrees
    title, *sections = page.text.split("\n## ")
    by_title = {section.partition("\n")[0]: section for section in sections}
    assert "123 s" in title
    assert "Product of 8192 x 8192, torch.bfloat16: 700,000 GFLOP/s" in title
    speed = by_title["How fast"]
    assert "| bf16 | 2,048 | 4,500.0 | 11.25 | 18,000 | 25 %, missed | 11 % |" in speed
    assert "| CIFAR-10 pair, m = 5 | bf16 | purifier | 0.19 | 88,000 | 12.6 % |" in speed
    assert "compiled at batch 4096: out of memory" in speed
    assert "| ResNet-110, Gaussian | 512 | bf16-mixed | yes | 7,500.0 | 15,000 | 50 % |" in speed
    assert "| another | 512 | bf16-mixed | no | 10.0 | | | |" in speed.replace("  ", " ")
    differing = by_title["What does not agree"]
    assert differing.count("\n- ") == 4
    for words in ("DIFFERS ResNet-20 by 5.0e-01", "`test_two`: `assert 1 == 2`", "rows depend",
                  "bench_imagenet: exit code 2; `it went wrong`"):  # fmt: skip
        assert words in differing
    agreeing = by_title["What agrees"]
    assert "self_test_bf16: 2 of 3 results as a CPU's in float32, by 3.0e-06 at most" in agreeing
    assert "test_x_on_gpu: 1 of 3 tests pass" in agreeing
    still = by_title["Not settled"]
    for words in ("bench_full: stopped after 9 s", "skipped", "bench_imagenet: no rate"):
        assert words in still


def test_a_page_of_nothing(tmp_path: Path) -> None:
    page = page_of([Outcome(Part("bench_full", (), 1.0), 2, 9.0)], tmp_path, 9.0)
    assert "- bench_full: exit code 2" in page.text
    assert not page.agrees


@pytest.mark.slow
def test_the_campaign_on_a_cpu(tmp_path: Path) -> None:
    """Its parts at tiny size, as `make gpu` starts them."""
    words = [sys.executable, str(REPOSITORY / "tests/gpu/gpu_campaign.py"), "--minutes", "20",
             "--out", str(tmp_path), "--only", "bench_cohen"]  # fmt: skip
    env = os.environ | {"DIFFSMOOTH_GPU_TESTS": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "page.md").read_text()
    assert "| Cohen's method: the shipped ResNet-20 alone | float32 | 8 |" in text
    assert "| bench_cohen | well |" in text
