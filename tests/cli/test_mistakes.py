"""A mistake is one line, exit code 2, and nothing left behind; a bug keeps its traceback."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from diffsmooth.cli.main import COMMANDS, run
from diffsmooth.stats.errors import UserError

STUDY = Path(__file__).parents[2] / "docs/studies/fashion_mnist/diffsmooth.jsonl"
HUGE = "1" + 30 * "0"
LARGE = "1" + 18 * "0"
LONG = 300 * "x"


@pytest.fixture
def commands(
    tmp_path: Path, classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[str]]:
    """A small command line of each command that would run, in an empty folder."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        images = generator.integers(0, 256, (20, 32, 32), np.uint8)
        np.savez(inputs / f"{split}.npz", images=images, labels=np.arange(20) % 10)
    pilot = inputs / "pilot.jsonl"
    pilot.write_text("".join(STUDY.read_text().splitlines(keepends=True)[:5]))
    (inputs / "twice.yaml").write_text("sigma: 0.5\nm: 1\nsigma: 0.25\n")
    (inputs / "loop.yaml").write_text("a: &a\n  b: *a\n")
    (inputs / "bomb.yaml").write_text(
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        )
    )
    (inputs / "open.yaml").write_text("sigma: [1, 2")
    (inputs / "list.yaml").write_text("- 1\n- 2\n")
    (inputs / "deep.yaml").write_text("sigma: " + 100_000 * "[" + 100_000 * "]")
    (inputs / "bytes.yaml").write_bytes(bytes(range(256)))
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    data, classifier = str(inputs), str(classifier_file)
    alone = ["--purifier", "none", "--m", "1", "--no_sanity_check", "--accelerator", "cpu"]
    plain = [*alone, "--local_noise_sd", "0", "--threads", "1", "--batch", "8"]
    return {
        "certify": [data, classifier, "0.5", "o.txt", "--N", "20", "--n0", "5", *plain],
        "predict": [data, classifier, "0.5", "o.txt", "--N", "20", *plain],
        "tune": [
            data, classifier, "0.25", "t.yaml", "--images", "4", "--validation_images", "8",
            "--N", "40", "--sigma_local", "0.25", "--radius", "0.1", *alone,
        ],
        "visualize": [data, "v.png", "--purifier", "none", "--accelerator", "cpu"],
        "forecast": [str(pilot), "--rate", "100", "--images", "10"],
        "report": [str(pilot)],
        "merge": ["o.txt"],
        "verify": [str(pilot)],
        "export": [classifier, "e.pt"],
        "bench": ["--workloads", "cohen", "--sections", "sequential", "--n", "100"],
        "doctor": [classifier, "--accelerator", "cpu"],
    }  # fmt: skip


@pytest.fixture
def fail(
    commands: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, list[str]], str]:
    """The one line that a command says with changes to its options."""

    def call(command: str, words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["diffsmooth", command, *words])
        with pytest.raises(SystemExit) as stopped:
            run(command, words, f"diffsmooth {command}")
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code == 2, line
        assert line.startswith(f"diffsmooth {command}: error: ")
        assert list(Path.cwd().iterdir()) == []  # nothing half-written
        return line

    return call


NUMBERS = [
    ("certify", "sigma", ["1e300", "nan", "-1", "0", "1e-300", "inf", "1e39"]),
    ("certify", "N", ["0", "-1", LARGE, HUGE, 5000 * "1", "nan", "1.5"]),
    ("certify", "n0", ["0", "-1", LARGE, HUGE]),
    ("certify", "alpha", ["0", "1", "-1", "nan", "1e-320", "2"]),
    ("certify", "m", ["0", "-1", "1000000000", HUGE]),
    ("certify", "local_noise_sd", ["-1", "nan", "inf", "1e300"]),
    ("certify", "batch", ["0", "-1", "1000000000000", HUGE]),
    ("certify", "skip", ["0", "-1", "x"]),
    ("certify", "max", ["-5", "0"]),
    ("certify", "seed", ["1.5", "x"]),
    ("certify", "local_seed", [HUGE, "-" + HUGE]),
    ("certify", "devices", ["0", "-1", "99", HUGE]),
    ("certify", "num_nodes", ["0", "2", HUGE]),
    ("certify", "threads", ["0", "-1", "1000000", HUGE]),
    ("certify", "in_flight", ["0", HUGE]),
    ("certify", "shard", ["0/2", "3/2", "x", "1/0", "-1/2", "1/2/3", ""]),
    ("predict", "sigma", ["1e300", "1e-300"]),
    ("predict", "N", ["0", HUGE]),
    ("predict", "alpha", ["0", "1e-320"]),
    ("tune", "sigma_local", ["-1", "nan", "1e300", "inf"]),
    ("tune", "radius", ["-1", "nan", "1e300", "9"]),
    ("tune", "images", ["0", "9", HUGE]),
    ("tune", "validation_seed", ["-1"]),
    ("tune", "m", ["0", "1000000000", HUGE]),
    ("tune", "N", ["0", LARGE, HUGE]),
    ("tune", "n0", ["0", HUGE]),
    ("tune", "alpha", ["0", "1e-320"]),
    ("tune", "local_seed", [HUGE]),
    ("visualize", "sigma", ["1e300", "nan", "-1", "0", "1e-300"]),
    ("visualize", "images", ["-1", "99999999", HUGE]),
    ("forecast", "rate", ["0", "-1", "nan", "inf", "1e-320"]),
    ("forecast", "images", ["0", "-1", LARGE]),
    ("forecast", "devices", ["0", "-1", HUGE]),
    ("forecast", "seed", ["-1"]),
    ("forecast", "alpha", ["0", "1", "1e-320"]),
    ("doctor", "sigma", ["1e300", "nan", "-1", "0", "1e-300"]),
    ("doctor", "m", ["0", "1000000000"]),
    ("doctor", "N", ["0", HUGE]),
    ("bench", "N", ["0", HUGE]),
    ("bench", "batch", ["0", HUGE]),
    ("bench", "seconds", ["nan", "-1", "1e300"]),
    ("bench", "repetitions", ["0", HUGE]),
]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [(command, option, value) for command, option, values in NUMBERS for value in values],
    ids=lambda value: str(value)[:20],
)
def test_a_number_out_of_range_is_named(
    command: str,
    option: str,
    value: str,
    commands: dict[str, list[str]],
    fail: Callable[[str, list[str]], str],
) -> None:
    line = fail(command, [*commands[command], f"--{option}={value}"])
    named = {"images": "images?"}.get(option, option)
    assert re.search(rf"\b{named}\b", line, re.IGNORECASE)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("certify", ["--plan", "x"], "group_sequential or PACKAGE.MODULE:NAME, got 'x'"),
        ("certify", ["--plan", "group_sequential", "--radii", "nan"], "radii"),
        ("certify", ["--plan", "group_sequential", "--radii", "-1"], "radii must be"),
        ("certify", ["--plan", "group_sequential", "--tolerance", "nan"], "tolerance"),
        ("certify", ["--noise", "x"], "noise must be auto, integer, float or device, got 'x'"),
        ("certify", ["--precision", "x"], "precision must be auto, float32, tf32 or bf16, got 'x'"),
        ("certify", ["--accelerator", "banana"], "banana"),
        ("certify", ["--purifier", "edm"], "purifier must be"),
        ("certify", ["--compile", "maybe"], "compile cannot be 'maybe'"),
        ("certify", ["--logdir", "/proc/x"], "logdir /proc/x: cannot be made"),
        ("certify", ["--logdir", f"new/{LONG}"], "long"),
        ("certify", ["--logdir", "a\0b"], " byte"),
        ("certify", ["--outfile", ""], "outfile '' is not the name of a file"),
        ("certify", ["--outfile", LONG], "long"),
        ("certify", ["--outfile", f"{242 * 'x'}.txt"], "long"),  # its manifest's name would be
        ("certify", ["--outfile", "/dev/null/o.txt"], "/dev/null/o.txt: cannot be written"),
        ("certify", ["--outfile", "/"], "outfile '/' is not the name of a file"),
        ("certify", ["--dataset", "~of_no_user/d.npz"], "~of_no_user"),
        ("certify", ["--classifier", "~of_no_user/c.pt"], "~of_no_user/c.pt: no such"),
        ("certify", ["--config", "none.yaml"], "none.yaml: no such config"),
        ("certify", ["--config", ""], "config"),
        ("certify", ["--config", "a\0b"], "null byte"),
        ("certify", ["--config", "{inputs}"], "{inputs}: a folder, not a config"),
        ("certify", ["--config", "{inputs}/open.yaml"], "open.yaml"),
        ("certify", ["--config", "{inputs}/list.yaml"], "list.yaml"),
        ("certify", ["--config", "{inputs}/deep.yaml"], "more than 50 levels"),
        ("certify", ["--config", "{inputs}/bytes.yaml"], "utf-8"),
        ("certify", ["--config", "{inputs}/loop.yaml"], "an alias (*)"),
        ("certify", ["--config", "{inputs}/bomb.yaml"], "an alias (*)"),
        ("certify", ["--config", "{inputs}/twice.yaml"], "'sigma' is said 2 times"),
        ("tune", ["--noise", "x"], "noise must be auto, integer, float or device, got 'x'"),
        ("tune", ["--precision", "x"], "precision must be"),
        ("visualize", ["--precision", "x"], "precision must be"),
        ("visualize", ["--accelerator", "x"], "accelerator must be auto, cpu or gpu, got 'x'"),
        ("bench", ["--noise", "x"], "noise must be"),
        ("bench", ["--sections", "x"], "sections must be of"),
        ("doctor", ["--precision", "x"], "precision must be"),
        (
            "certify",
            ["--dataset", "Fashion-MNIST"],
            "unknown dataset 'Fashion-MNIST': known are "
            "fashion_mnist, fashion_mnist_sample, cifar10, imagenet or PACKAGE.MODULE:FACTORY, and "
            "no folder or .npz file is called so (nearest: fashion_mnist",
        ),
        (
            "certify",
            ["--dataset", "{inputs}/Trian.npz"],
            "{inputs}/Trian.npz: no such file or folder (nearest: {inputs}/train.npz",
        ),
        ("certify", ["--dataset", "none.npz"], "none.npz: no such file or folder"),
        ("certify", ["--dataset", "~/none"], "~/none: no such file or folder"),
        ("certify", ["--dataset", "{inputs}/deep.yaml"], "deep.yaml: is no .npz file"),
        ("report", ["--attacks", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        ("report", ["--attacks", "{inputs}"], "{inputs}: is a folder, a file is wanted"),
        ("report", ["--attacks", "{inputs}/deep.yaml"], "deep.yaml: is not of a run of attacks"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_word_or_a_file_that_will_not_do_is_named(
    command: str,
    words: list[str],
    message: str,
    commands: dict[str, list[str]],
    fail: Callable[[str, list[str]], str],
) -> None:
    inputs = commands["certify"][0]
    words = [word.replace("{inputs}", inputs) for word in words]
    line = fail(command, [*commands[command], *words])
    assert message.replace("{inputs}", inputs) in line


@pytest.mark.parametrize(
    ("command", "place", "name", "message"),
    [
        ("tune", 3, "t.txt", "its name must end in .yaml or .yml"),
        ("tune", 3, f"{LONG}.yaml", LONG),
        ("tune", 3, "/proc/x/t.yaml", "/proc/x"),
        ("tune", 3, "a\0b.yaml", " byte"),
        ("visualize", 1, "v.txt", "its name must end in"),
        ("visualize", 1, "/dev/null/v.png", "/dev/null"),
        ("visualize", 1, f"{LONG}.png", LONG),
        ("export", 1, "", "is a folder"),
        ("export", 1, "/dev/null", "/dev/null: is "),
        ("export", 1, f"{LONG}.pt", LONG),
        ("export", 1, "/proc/x/e.pt", "/proc/x"),
        ("merge", 0, "nowhere", "nowhere.manifest.json: no such file"),
        ("merge", 0, "", "outfile '' is not the name of a file"),
        ("forecast", 0, "nowhere", "nowhere: no such file"),
        ("verify", 0, "nowhere", "nowhere: no such file"),
        ("verify", 0, "/dev/null", "/dev/null: is a pipe"),
        ("forecast", 0, "/dev/null", "/dev/null: no such file"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_name_that_will_not_do_is_named_before_any_work(
    command: str,
    place: int,
    name: str,
    message: str,
    commands: dict[str, list[str]],
    fail: Callable[[str, list[str]], str],
) -> None:
    words = commands[command]
    words[place] = name
    assert message in fail(command, words)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo", "train", "bench"}))
def test_no_words_at_all_are_a_mistake(
    command: str, commands: dict[str, list[str]], fail: Callable[[str, list[str]], str]
) -> None:
    fail(command, [])


BUGS = [
    ("certify", "diffsmooth.pipeline.publish", "summary_text"),
    ("certify", "diffsmooth.pipeline.job", "choose_classifier"),
    ("predict", "diffsmooth.pipeline.publish", "prediction_closing"),
    ("merge", "diffsmooth.pipeline.merge", "_stored_identity"),
    ("tune", "diffsmooth.pipeline.tune", "certify_settings"),
    ("visualize", "diffsmooth.pipeline.visualize", "look_at"),
    ("forecast", "diffsmooth.pipeline.forecast", "forecast_votes"),
    ("report", "diffsmooth.pipeline.report", "read_run"),
    ("verify", "diffsmooth.pipeline.verify", "recheck_run"),
    ("export", "diffsmooth.pipeline.export", "write_checkpoint"),
    ("bench", "diffsmooth.pipeline.bench", "_sequential"),
    ("doctor", "diffsmooth.pipeline.examine", "examine"),
]


@pytest.mark.parametrize(("command", "module", "name"), BUGS, ids=lambda value: value)
def test_a_bug_keeps_its_traceback(
    command: str,
    module: str,
    name: str,
    commands: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        np.ones(2) + np.ones(3)

    monkeypatch.setattr(import_module(module), name, broken)
    monkeypatch.setattr(sys, "argv", ["diffsmooth", command, *commands[command]])
    with pytest.raises(ValueError, match="operands could not be broadcast") as raised:
        run(command, commands[command], f"diffsmooth {command}")
    assert not isinstance(raised.value, UserError)


def test_a_full_disk_under_the_events_is_one_line(
    commands: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    module = import_module("tensorboard.summary.writer.record_writer")
    monkeypatch.setattr(module.RecordWriter, "write", full)  # in a thread of TensorBoard's
    with pytest.raises(SystemExit) as stopped:
        run("certify", commands["certify"], "certify.py")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].endswith("o: No space left on device")


def test_a_full_disk_names_the_file(
    commands: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")  # as a write says it: without a name

    monkeypatch.setattr(import_module("diffsmooth.report.loggers"), "write_run", full)
    with pytest.raises(SystemExit) as stopped:
        run("certify", commands["certify"], "certify.py")
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("certify.py: error: logs/certify/")
    assert line.endswith("o: No space left on device")
