"""What needs no network is answered without the libraries that networks need."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "lightning", "pandas", "matplotlib")
PROGRAM = """
import contextlib, importlib, io, json, sys
calls = json.loads(sys.argv[1])
for command, words in calls:
    out, code = io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            importlib.import_module(f"diffsmooth.cli.{command}").main(words, prog=command)
        except SystemExit as end:
            code = end.code
    heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    print(json.dumps([command, code, heavy, out.getvalue()]))
"""
COMMANDS = (
    "demo", "certify", "predict", "tune", "visualize", "doctor", "export", "merge", "forecast",
    "bench", "report", "attack", "verify",
)  # fmt: skip
RUN = ["fashion_mnist", "nofile.pt", "0.5", "OUT"]
MISTAKES = [
    (["certify", RUN], "nofile.pt: no such checkpoint"),
    (["predict", RUN], "nofile.pt: no such checkpoint"),
    (["certify", [*RUN, "--sigma_local", "-1"]], "local_noise_sd must be >= 0"),
    (["certify", [*RUN, "--shard", "4/3"]], "shard must be I/K"),
    (["predict", [*RUN, "--weights", "both"]], "weights must be raw or ema, got 'both'"),
    (["certify", ["--config", "pkg:x"]], "'pkg:x': not among what is shipped, which is pkg:"),
    (["train", ["fit", "-c", "pkg:x"]], "'pkg:x': not among what is shipped, which is pkg:"),
    (["demo", ["--classifier", "pkg:x"]], "'pkg:x': not among what is shipped, which is pkg:"),
    (["demo", ["--sigma", "-1"]], "sigma must be > 0"),
    (["tune", [*RUN[:3], "o.yaml"]], "nofile.pt: no such checkpoint"),
    (["visualize", ["no.npz", "o.png"]], "no.npz: no such file or folder"),
    (["export", ["no.ckpt", "o.pt"]], "no.ckpt: no such checkpoint"),
    (["verify", ["nowhere.txt"]], "nowhere.txt: no such file"),
    (["attack", ["no.jsonl", "OUT"]], "no.jsonl: no such file"),
    (["attack", ["no.jsonl", "OUT", "--budgets", "0"]], "budgets must be > 0"),
    (["bench", ["--batch", "0"]], "batch must be at least 1, got 0"),
]


def answers(calls: list[list[object]], folder: Path) -> list[list[object]]:
    """[command, exit code, heavy libraries so far, output] of each call, all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls), json.dumps(HEAVY)],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_needs_no_library(tmp_path: Path) -> None:
    found = answers([[c, ["--help"]] for c in COMMANDS], tmp_path)
    for name, (command, code, heavy, text) in zip(COMMANDS, found, strict=True):
        assert (command, code, heavy) == (name, 0, [])
        assert "usage: " in str(text)


def test_mistakes_that_need_no_library(tmp_path: Path) -> None:
    found = answers([call for call, _ in MISTAKES], tmp_path)
    for ((name, _), message), (command, code, heavy, text) in zip(MISTAKES, found, strict=True):
        assert (command, code, heavy) == (name, 2, [])
        assert message in str(text)
        assert len(str(text).splitlines()) == 1
