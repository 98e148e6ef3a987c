"""What a run says before its first vote, and that a dry run stops there."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from diffsmooth.cli import certify
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.announcement import duration, near
from diffsmooth.stats.errors import UserError

REPOSITORY = Path(__file__).parents[2]
Words = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path, classifier_file: Path, unet_file: Path) -> Words:
    def build(*changes: str) -> list[str]:
        return [
            "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / "o.txt"),
            "--m", "2", "--N0", "8", "--N", "30", "--skip", "200", "--diffusion", str(unet_file),
            "--logdir", str(tmp_path / "logs"), "--accelerator", "cpu", "--threads", "1",
            "--no_sanity_check", *changes,
        ]  # fmt: skip

    return build


def test_a_run_says_what_it_will_do_in_five_lines(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main(words())
    data, networks, computing, output, votes, *_ = capsys.readouterr().out.splitlines()
    size = "1,000 of 1 x 32 x 32, 10 classes"
    assert data == f"data: fashion_mnist_sample, test: {size}; every 200th taken: 5"
    found = re.fullmatch(
        r"networks: cifar_resnet8 behind input layer \w+, \S+\.pt; purifier oneshot, \S+\.pt; "
        r"m 2, sigma_local 0\.25",
        networks,
    )
    assert found, networks
    assert re.fullmatch(
        r"computing: 1 process on cpu [A-Z0-9_ a-z]+, 1 thread, \w+ \(auto: the best that the "
        r"hardware has\), batch 38 \(auto: an image's votes\), not compiled",
        computing,
    ), computing
    assert output.startswith(
        f"output: {tmp_path}/o.txt, and beside it .jsonl, .manifest.json; curves"
    )
    assert re.fullmatch(
        r"votes: plan fixed, 5 x 38 = 190, exact noise, integer-[^(]+ "
        r"\(auto: all images are of 8 bits\); "
        r"about \d+ s, at [\d,]+ votes/s",
        votes,
    ), votes


def a_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10)).eval()


def test_a_network_of_the_users_own_code_is_named_once(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _, *others = words()
    certify.main([data, f"{__name__}:a_network", *others])
    _, networks, *_ = capsys.readouterr().out.splitlines()
    name = f"{__name__}:a_network"
    assert networks.startswith(f"networks: {name} behind input layer none; purifier oneshot, ")


def test_what_an_earlier_start_chose_is_said_so(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main(words())
    capsys.readouterr()
    certify.main(words())
    lines = capsys.readouterr().out.splitlines()
    assert "batch 38 (as the run was begun)" in lines[2]
    assert lines[4].endswith("; 5 of 5 are done, nothing is left to do")


def test_a_sequential_plan_has_at_most_so_many_votes(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    certify.main(words("--plan", "group_sequential", "--first_look", "10"))
    assert "votes: plan group_sequential, 5 x 38 at most = 190, " in capsys.readouterr().out


def test_a_dry_run_writes_nothing(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        certify.main(words("--dry_run"))
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("votes: plan fixed, 5 x 38 = 190, ")
    assert "certified accuracy" not in out
    assert not [path for path in tmp_path.rglob("o.*")]
    assert not (tmp_path / "logs").exists()


def test_whether_networks_are_compiled_does_not_depend_on_how_many_share_a_run(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(wanted: bool | None, f: VoteFunction, device: torch.device, votes: int) -> bool:
        asked.append(votes)
        raise UserError("that is all")

    asked: list[int] = []
    monkeypatch.setattr("diffsmooth.pipeline.job.choose_compile", stop)
    for share in ([], ["--devices", "2"], ["--shard", "1/2"]):
        with pytest.raises(SystemExit):
            certify.main(words(*share))
    assert asked == 3 * [190]


@pytest.mark.slow
def test_a_dry_run_of_two_processes_ends_well_and_says_each_line_once(
    words: Words, tmp_path: Path
) -> None:
    command = [sys.executable, "certify.py", *words("--dry_run", "--devices", "2")]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:5]] == [
        "data", "networks", "computing", "output", "votes",
    ]  # fmt: skip
    assert len(lines) == len(set(lines))
    assert "2 processes on cpu" in lines[2]
    assert "Traceback" not in done.stderr
    assert "GLOBAL_RANK" not in done.stderr + done.stdout  # Lightning's banner of each process
    assert not [path for path in tmp_path.rglob("o.*")]


def test_a_dry_run_leaves_a_run_as_it_is(words: Words, tmp_path: Path) -> None:
    certify.main(words())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        certify.main(words("--dry_run"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"), (59.0, "59 s"), (59.5, "60 s"), (60.0, "1 min"), (3541.0, "1 h 0 min"),
        (3600.0 * 9.5, "9 h 30 min"), (3600.0 * 30, "30 h"), (3.6e7, "10,000 h"),
    ],
)  # fmt: skip
def test_durations_are_rounded_up(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_paths_are_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "a" / "b.pt")) == "a/b.pt"
    assert near("/elsewhere/b.pt") == "/elsewhere/b.pt"
    assert near("package.module:factory") == "package.module:factory"


def test_what_a_dry_run_says_is_its_result(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        certify.main(words("--dry_run", "--quiet"))
    assert "\nvotes: plan fixed, 5 x 38 = 190, " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        certify.main(words("--dry_run", "--json"))
    assert stopped.value.code == 2
    assert "--json is of the closing table, which a --dry_run" in capsys.readouterr().err
