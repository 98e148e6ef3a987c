"""The certification command from end to end, with tiny networks."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from diffsmooth.cli import certify, merge, predict
from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.images import ArrayImages, Sample
from diffsmooth.models.smoothing.noise import NoiseKey, Votes
from diffsmooth.models.smoothing.noise_sources import noise_source
from diffsmooth.pipeline.identity import chosen_skip
from diffsmooth.report import read_results
from diffsmooth.runs.gallery import read_gallery, to_bytes
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.line import _checksum
from diffsmooth.runs.names import OutputFiles
from diffsmooth.stats import Certificate, ImageRecord, average_certified_radius

REPOSITORY = Path(__file__).parents[2]
Command = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path, classifier_file: Path, unet_file: Path) -> Command:
    """The seed's command line, at a small size, with changes to its options."""

    def build(out: str, *changes: str) -> list[str]:
        return [
            "fashion_mnist_sample", str(classifier_file), "0.50", str(tmp_path / out),
            "--local_noise_sd", "0.25", "--m", "2", "--N0", "8", "--N", "30", "--batch", "16",
            "--skip", "200", "--diffusion", str(unet_file), "--logdir", str(tmp_path / "logs"),
            "--accelerator", "cpu", "--threads", "1", "--no_sanity_check", *changes,
        ]  # fmt: skip

    return build


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    def call(arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["certify.py", *arguments])
        certify.main()

    return call


def rows(path: Path) -> list[list[str]]:
    """The table's cells without the time."""
    return [line.split("\t")[:5] for line in path.read_text().splitlines()]


def start(
    arguments: list[str], script: tuple[str, ...] = ("certify.py",)
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *script, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "default"},
    )


def test_a_run_writes_its_files_and_its_table(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt"))
    out = capsys.readouterr().out
    assert "certified accuracy   95 % interval" in out
    assert "average certified radius" in out
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("o")) == [
        "o.images.npz", "o.jsonl", "o.manifest.json", "o.png", "o.txt",
    ]  # fmt: skip
    table = rows(tmp_path / "o.txt")
    assert table[0] == ["idx", "label", "predict", "radius", "correct"]
    assert [(row[0], row[1]) for row in table[1:]] == [
        ("0", "0"), ("200", "2"), ("400", "4"), ("600", "6"), ("800", "8"),
    ]  # fmt: skip
    records = read_journal(tmp_path / "o.jsonl").records
    assert all(sum(v for _, v in r.certificate.selection_counts) == 8 for r in records)
    assert all(sum(v for _, v in r.certificate.estimation_counts) == 30 for r in records)
    assert len({r.certificate.estimation_counts for r in records}) > 1
    identity = json.loads((tmp_path / "o.manifest.json").read_text())["identity"]
    assert identity["plan"] == "FixedSampleSize(n0=8, n=30, alpha=0.001)"
    assert (identity["batch"], identity["threads"]) == (16, 1)
    assert len(identity["classifier"]) == 64
    events = list((tmp_path / "logs" / "certify").rglob("o/events.*"))
    assert events


def test_the_sanity_check_has_noise_of_its_own(
    words: Command, run: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, digest = set(), NoiseKey.digest

    def note(key: NoiseKey, size: int) -> bytes:
        keys.add(key.purpose)
        return digest(key, size)

    monkeypatch.setattr(NoiseKey, "digest", note)
    with pytest.raises(SystemExit):  # near chance: the network is not trained
        run([w for w in words("o.txt", "--skip", "10") if w != "--no_sanity_check"])
    assert keys == {"sanity"}
    run(words("o.txt"))
    assert keys == {"probe", "sanity", "certify"}


def test_the_gallery_holds_what_the_votes_saw(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    images = load_images("fashion_mnist_sample")
    run(words("o.txt"))
    run(words("cohen.txt", "--purifier", "none", "--local_noise_sd", "0", "--m", "1"))
    local = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(42))
    noise = noise_source("integer", torch.device("cpu"))
    for name in ("o", "cohen"):
        gallery = read_gallery(tmp_path / f"{name}.images.npz")
        assert [image.index for image in gallery] == [0, 200, 400, 600, 800]
        for shown in gallery:
            original = images[shown.index].image
            np.testing.assert_array_equal(shown.original, to_bytes(original.numpy()))
            key = NoiseKey(0, "certify", "fashion_mnist_sample", "test", shown.index)
            noisy = noise.noisy([Votes(key, 0, 0, 1)], [original], 0.5, 1).images[0]
            np.testing.assert_allclose(shown.noisy, to_bytes(noisy.numpy()), atol=1)
            # The tiny U-Net is untrained and predicts no noise, so all that it does is to clip.
            np.testing.assert_array_equal(shown.purified, shown.noisy)
            copies = (noisy.clip(0, 1) + 0.25 * local).numpy()[: 2 if name == "o" else 0]
            assert shown.copies.shape == copies.shape
            np.testing.assert_allclose(shown.copies, to_bytes(copies), atol=1)


def test_a_finished_run_prints_its_table_again_and_keeps_its_times(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt"))
    first, table = capsys.readouterr().out, (tmp_path / "o.txt").read_text()
    run(words("o.txt"))
    again = capsys.readouterr().out
    assert again.partition("\nradius ")[2] == first.partition("\nradius ")[2] != ""
    assert (tmp_path / "o.txt").read_text() == table


@pytest.mark.slow
def test_a_config_with_overrides_equals_the_seeds_line(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    run(words("a.txt"))
    arguments = words("b.txt")
    unet = arguments[arguments.index("--diffusion") + 1]
    config = {
        "dataset": arguments[0], "classifier": arguments[1], "sigma": 0.25, "outfile": "nowhere",
        "m": 2, "n0": 8, "n": 30, "batch": 16, "skip": 200, "diffusion": unet,
        "accelerator": "cpu", "threads": 1, "sanity_check": False,
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    run(["--config", str(tmp_path / "c.yaml"), "--sigma", "0.5", "--outfile", arguments[3],
         "--logdir", str(tmp_path / "logs"), "--local-noise-sd=0.25"])  # fmt: skip
    assert rows(tmp_path / "a.txt") == rows(tmp_path / "b.txt")


CONSOLE_SCRIPT = (str(Path(sys.executable).parent / "diffsmooth"), "certify")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subset", "script"),
    [
        pytest.param(["--threads", "2"], CONSOLE_SCRIPT, marks=pytest.mark.slow, id="five images"),
        pytest.param(["--max", "1"], ("certify.py",), id="one image"),
    ],
)
def test_two_processes_give_the_same_table_as_one(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    subset: list[str],
    script: tuple[str, ...],
) -> None:
    two = start(words("two.txt", "--devices", "2", *subset), script)
    run(words("one.txt", *subset))
    _, errors = two.communicate(timeout=300)
    assert two.returncode == 0, errors
    assert rows(tmp_path / "two.txt") == rows(tmp_path / "one.txt")
    one, both = (read_journal(tmp_path / f"{name}.jsonl").records for name in ("one", "two"))
    assert [r.certificate for r in one] == [r.certificate for r in both]
    assert not (tmp_path / "two.parts").exists()


def journaled(parts: Path) -> dict[int, ImageRecord]:
    """What the processes of a running job have written."""
    return {r.index: r for path in parts.glob("*.jsonl") for r in read_journal(path).records}


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_stopped(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path, end: signal.Signals
) -> None:
    many = ["--skip", "20"]  # more than the 100 batches after which images first count
    process = start(words("o.txt", *many))
    parts = tmp_path / "o.parts"
    deadline = time.monotonic() + 200
    while len(journaled(parts)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(end)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == (75 if end == signal.SIGTERM else -end), errors
    assert not (tmp_path / "o.txt").exists()
    before = journaled(parts)
    assert 2 <= len(before) < 50
    run(words("o.txt", *many))
    run(words("whole.txt", *many))
    assert rows(tmp_path / "o.txt") == rows(tmp_path / "whole.txt")
    after = {r.index: r for r in read_journal(tmp_path / "o.jsonl").records}
    assert all(after[index] == record for index, record in before.items())  # not done again


@pytest.mark.slow
def test_sigterm_reaches_all_processes_also_idle_ones(words: Command, tmp_path: Path) -> None:
    """One image and two processes: rank one waits for rank zero, which gives its image up."""
    process = start(words("o.txt", "--devices", "2", "--max", "1", "--N", "100000000"))
    assert process.stderr is not None
    line = process.stderr.readline()
    while "votes/s" not in line:
        assert line
        line = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 75, errors
    assert "the same command goes on from here" in errors
    assert journaled(tmp_path / "o.parts") == {}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killing_either_of_two_processes_ends_both_and_loses_nothing(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path, victim: int
) -> None:
    sequential = [
        "--plan", "group_sequential", "--N", "1000", "--skip", "20",
        "--purifier", "none", "--m", "1", "--local_noise_sd", "0",
    ]  # fmt: skip
    process = start(words("o.txt", "--devices", "2", *sequential))
    parts = tmp_path / "o.parts"
    deadline = time.monotonic() + 200
    while len(journaled(parts)) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    (child,) = map(
        int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    )
    os.kill((process.pid, child)[victim], signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == (-signal.SIGKILL, 75)[victim], errors
    while Path(f"/proc/{child}").exists():  # nobody computes on
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = journaled(parts)
    assert 3 <= len(before) < 50
    run(words("o.txt", *sequential))
    run(words("whole.txt", *sequential))
    assert certificates(tmp_path / "o.jsonl") == certificates(tmp_path / "whole.jsonl")
    after = {r.index: r for r in read_journal(tmp_path / "o.jsonl").records}
    assert all(after[index] == record for index, record in before.items())  # not done again


def certificates(path: Path) -> list[Certificate]:
    return [record.certificate for record in read_journal(path).records]


@pytest.mark.slow
def test_shards_give_the_table_of_the_whole(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = start(words("o.txt", "--shard", "2/2", "--devices", "2"))
    run(words("o.txt", "--shard", "1/2"))
    assert "shard 1/2: its 3 images are done; when all shards are: diffsmooth merge" in (
        capsys.readouterr().out
    )
    _, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors
    assert not (tmp_path / "o.txt").exists()
    merge.main([str(tmp_path / "o.txt"), "--logdir", str(tmp_path / "logs")])
    assert "certified accuracy   95 % interval" in capsys.readouterr().out
    run(words("whole.txt"))
    assert rows(tmp_path / "o.txt") == rows(tmp_path / "whole.txt")
    assert certificates(tmp_path / "o.jsonl") == certificates(tmp_path / "whole.jsonl")
    run(words("o.txt", "--shard", "1/2"))  # finished: says so again, computes nothing
    merge.main([str(tmp_path / "o.txt"), "--logdir", str(tmp_path / "logs")])
    assert rows(tmp_path / "o.txt") == rows(tmp_path / "whole.txt")


def test_merging_refuses_gaps(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt", "--shard", "1/2"))
    for out, message in (
        ("o.txt", "2 of 5 images are missing, the first is 200: run the shards to their end"),
        ("p.txt", "p.manifest.json: no such file: there is no run to merge"),
    ):
        with pytest.raises(SystemExit) as stopped:
            merge.main([str(tmp_path / out)])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o.txt").exists()


@pytest.mark.slow
def test_two_nodes_of_torchrun(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [
        "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1",
        "--master_addr", "127.0.0.1", "--master_port", str(port),
    ]  # fmt: skip
    # Without the dashes torchrun takes --m for one of its own options.
    arguments = ["--", "certify.py", *words("two.txt", "--num_nodes", "2")]
    nodes = [start(arguments, (*torchrun, "--node_rank", str(rank))) for rank in (0, 1)]
    for node in nodes:
        _, errors = node.communicate(timeout=300)
        assert node.returncode == 0, errors
    run(words("one.txt"))
    assert rows(tmp_path / "two.txt") == rows(tmp_path / "one.txt")


@pytest.mark.slow
def test_an_image_that_raises_is_recorded_and_the_others_go_on(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(words("whole.txt"))
    capsys.readouterr()
    item = ArrayImages.__getitem__

    def broken(self: ArrayImages, index: int) -> Sample:
        if index == 400:
            raise OSError("a bad sector")
        return item(self, index)

    monkeypatch.setattr(ArrayImages, "__getitem__", broken)
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt"))
    monkeypatch.undo()
    assert stopped.value.code == 1
    errors = capsys.readouterr().err
    assert "image 400 failed: OSError: a bad sector" in errors
    assert "1 of 5 images failed and count as not certified" in errors
    table, whole = rows(tmp_path / "o.txt"), rows(tmp_path / "whole.txt")
    assert table[3] == ["400", "4", "-1", "0.000000", "0"]
    assert table[:3] + table[4:] == whole[:3] + whole[4:]
    certify.main(words("o.txt"))  # tried again
    assert rows(tmp_path / "o.txt") == whole


def test_a_run_whose_images_all_raise_stops(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: ArrayImages, index: int) -> Sample:
        raise OSError("no disk")

    monkeypatch.setattr(ArrayImages, "__getitem__", broken)
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt", "--skip", "10"))
    assert stopped.value.code == 2
    assert "10 images in a row failed, the last: OSError: no disk" in capsys.readouterr().err
    assert not (tmp_path / "o.txt").exists()


@pytest.mark.slow
def test_images_in_flight_change_nothing_also_after_a_resume(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    sequential = ["--plan", "group_sequential", "--N", "90", "--first_look", "10", "--skip", "100"]
    run(words("one.txt", *sequential, "--in_flight", "1"))
    run(words("o.txt", *sequential, "--max", "1000", "--shard", "1/3", "--in_flight", "3"))
    run(words("o.txt", *sequential, "--max", "1000"))  # the rest of them
    run(words("many.txt", *sequential))
    expected = certificates(tmp_path / "one.jsonl")
    assert certificates(tmp_path / "many.jsonl") == expected
    assert certificates(tmp_path / "o.jsonl") == expected
    assert len({len(c.looks) for c in expected}) > 1
    assert all(c.looks[-1].n == c.n for c in expected)


@pytest.mark.slow
def test_the_sequential_plan_says_what_it_did(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt", "--plan", "group_sequential", "--radii", "0", "0.3", "--N", "400"))
    out = capsys.readouterr().out
    assert "plan group_sequential" in out
    assert "average certified radius >= " in out
    identity = json.loads((tmp_path / "o.manifest.json").read_text())["identity"]
    assert "radii=(0.0, 0.3)" in identity["plan"]
    run(words("l.txt", "--plan", "group_sequential", "--label_aware", "--N", "400"))
    assert "n/a: label-aware" in capsys.readouterr().out


THEIR_PLAN = """
from dataclasses import dataclass
from typing import ClassVar
from diffsmooth.stats import Plan

@dataclass(frozen=True)
class TwoLooks(Plan):
    name: ClassVar[str] = "their_two_looks:TwoLooks"
    looks = property(lambda self: (self.n // 2, self.n))
    levels = property(lambda self: (self.alpha / 2, self.alpha / 2))
"""


def test_a_plan_of_another_package_certifies_and_is_resumed_merged_and_reported(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "their_two_looks.py").write_text(THEIR_PLAN)
    monkeypatch.syspath_prepend(tmp_path)
    theirs = ["--plan", "their_two_looks:TwoLooks"]
    for shard in ("1/2", "2/2"):
        run(words("o.txt", *theirs, "--shard", shard))
    merge.main([str(tmp_path / "o.txt")])
    table = rows(tmp_path / "o.txt")
    run(words("o.txt", *theirs))  # finished: it prints its table
    assert "plan their_two_looks:TwoLooks" in capsys.readouterr().out
    assert rows(tmp_path / "o.txt") == table
    identity = json.loads((tmp_path / "o.manifest.json").read_text())["identity"]
    assert identity["plan"] == "their_two_looks:TwoLooks(n0=8, n=30, alpha=0.001)"
    found = certificates(tmp_path / "o.jsonl")
    assert {tuple(look.n for look in c.looks) for c in found} == {(15, 30)}
    results = read_results(tmp_path / "o.txt")
    assert results.plan == theirs[1]
    assert results.radius.tolist() == [c.radius for c in found]


@pytest.mark.slow
def test_the_device_source_of_noise_is_another_run(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt"))
    run(words("d.txt", "--noise", "device"))
    assert certificates(tmp_path / "d.jsonl") != certificates(tmp_path / "o.jsonl")
    with pytest.raises(SystemExit):
        run(words("o.txt", "--noise", "device"))
    assert "belongs to a different run (noise_source was 'integer-philox" in capsys.readouterr().err


def test_a_launchers_processes_must_match_the_options(
    words: Command,
    run: Callable[[list[str]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt"))
    assert stopped.value.code == 2
    assert "the launcher started 4 processes" in capsys.readouterr().err


@pytest.mark.slow
def test_resuming_takes_over_what_the_first_start_chose(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    run(words("o.txt", "--threads", "2", "--precision", "float32"))
    automatic = [w for w in words("o.txt") if w not in ("--threads", "1")]
    run(automatic)
    manifest = json.loads((tmp_path / "o.manifest.json").read_text())
    assert manifest["identity"]["threads"] == 2
    assert manifest["identity"]["precision"] == "float32"
    before = (tmp_path / "o.jsonl").read_text()
    run([*automatic, "--overwrite"])  # replaces other runs' files only
    assert (tmp_path / "o.jsonl").read_text() == before


def test_a_run_near_chance_stops_before_the_votes(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    careful = [w for w in words("o.txt", "--skip", "10") if w != "--no_sanity_check"]
    with pytest.raises(SystemExit) as stopped:
        run(careful)
    assert stopped.value.code == 2
    assert "is near chance" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    run([*careful, "--max", "1"])  # a few votes are not worth a check


@pytest.mark.slow
def test_the_methods_take_one_path(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    run(words("diffsmooth.txt"))
    run(words("denoised.txt", "--m", "1", "--local_noise_sd", "0"))
    run(words("cohen.txt", "--purifier", "none", "--m", "1", "--local_noise_sd", "0"))
    run(words("densepure.txt", "--purifier", "multistep", "--steps", "3", "--runs", "2",
              "--convention", "densepure"))  # fmt: skip
    names = ("diffsmooth", "denoised", "cohen")
    tables = [(tmp_path / f"{name}.jsonl") for name in names]
    counts = {
        tuple(r.certificate.estimation_counts for r in read_journal(table).records)
        for table in tables
    }
    assert len(counts) == 3
    manifest = json.loads((tmp_path / "cohen.manifest.json").read_text())
    assert (manifest["identity"]["diffusion"], manifest["identity"]["ties"]) == ("", "")
    identity = json.loads((tmp_path / "densepure.manifest.json").read_text())["identity"]
    assert (identity["purifier"], identity["convention"]) == ("multistep", "densepure")
    assert (identity["steps"], identity["runs"], identity["ties"]) == (3, 2, "earliest run")


def test_predict_writes_the_published_columns(
    words: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [w for w in words("p.txt") if w not in ("--N0", "8")]
    monkeypatch.setattr(sys, "argv", ["predict", *arguments, "--purifier", "none"])
    predict.main()
    assert "accuracy" in capsys.readouterr().out
    header, *body = (tmp_path / "p.txt").read_text().splitlines()
    assert header == "idx\tlabel\tpredict\tcorrect\ttime"
    assert len(body) == 5
    for line in body:
        _, label, answer, correct, _ = line.split("\t")
        assert correct == str(int(label == answer))


def test_the_journal_and_the_table_agree(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    run(words("o.txt", "--purifier", "none", "--m", "1", "--local_noise_sd", "0"))
    journal, table = read_results(tmp_path / "o.jsonl"), read_results(tmp_path / "o.txt")
    assert journal.prediction.tolist() == table.prediction.tolist()
    assert (table.radius <= journal.radius).all()
    np.testing.assert_allclose(table.radius, journal.radius, atol=1.1e-6)
    assert average_certified_radius(table) <= average_certified_radius(journal)


MISTAKES = [
    (["--sigma", "0"], "sigma must be > 0 and finite, got 0"),
    (["--sigma", "1.01"], "the largest possible is 1"),
    (["--alpha", "0"], "alpha must be in (0, 1), got 0"),
    (["--alpha", "1"], "alpha must be in (0, 1), got 1"),
    (["--N0", "0"], "n0 must be at least 1, got 0"),
    (["--N", "0"], "N must be at least 1, got 0"),
    (["--m", "0"], "m must be at least 1, got 0"),
    (["--batch", "0"], "batch must be at least 1, got 0"),
    (["--skip", "0"], "skip must be at least 1, got 0"),
    (["--max", "0"], "no image is left with skip 200 and max 0"),
    (["--local_noise_sd", "-1"], "local_noise_sd must be >= 0"),
    (["--threads", "0"], "threads must be at least 1"),
    (["--devices", "0"], "devices must be at least 1"),
    (["--accelerator", "abacus"], "invalid accelerator name: `accelerator='abacus'`"),
    (
        ["--purifier", "magic"],
        "purifier must be oneshot or multistep or none or ",
    ),
    (["--convention", "x"], "convention must be diffsmooth, carlini or densepure, got 'x'"),
    (["--normalize", "centre"], "unknown input layer 'centre'"),
    (["--steps", "0"], "steps must be at least 1"),
    (["--steps", "3"], "steps is of purifier multistep, not of oneshot"),
    (["--purifier", "none", "--runs", "3"], "runs is of purifier multistep, not of none"),
    (["--purifier", "none", "--pad", "reflect"], "pad has no meaning with purifier none"),
    (["--logdir", str(REPOSITORY / "setup.cfg" / "x")], "setup.cfg is not a folder that can be"),
    (["--precision", "16-true"], "precision must be auto, float32, tf32 or bf16"),
    (["--precision", "tf32"], "precision tf32 is of CUDA devices, not of cpu"),
    (["--kernels", "timed"], "kernels timed is of CUDA devices, not of cpu"),
    (["--noise", "white"], "noise must be auto, integer, float or device, got 'white'"),
    (["--compile", "maybe"], "compile cannot be 'maybe' (--help explains the options)"),
    (["--threads", "few"], "threads cannot be 'few'"),
    (["--shard", "0/2"], "shard must be I/K with 1 <= I <= K, such as 1/16, got '0/2'"),
    (["--in_flight", "0"], "in_flight must be at least 1"),
    (["--plan", "lucky"], "group_sequential or PACKAGE.MODULE:NAME, got 'lucky'"),
    (["--radii", "0.5"], "radii is of plan group_sequential, not of fixed"),
    (["--plan", "group_sequential", "--tolerance", "2"], "tolerance must be in (0, 1), got 2"),
    (["--plan", "group_sequential", "--radii", "-1"], "radii"),
    (["--plan", "group_sequential", "--tolerance", "0"], "tolerance must be in (0, 1), got 0"),
    (["--plan", "group_sequential", "--first_look", "0"], "first_look must be at least 1, got 0"),
    (["--tolerance", "0.1"], "tolerance is of plan group_sequential, not of fixed"),
    (["--dataset", "minst"], "unknown dataset 'minst': known are fashion_mnist,"),
    (["--split", "train"], "fashion_mnist_sample holds test images only"),
    (["--classifier", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    (["--classifier", str(REPOSITORY / "setup.cfg")], "setup.cfg: not a readable checkpoint"),
    (["--diffusion", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    (["--outfile", "/proc/nowhere/o.txt"], "/proc/nowhere/o.txt: cannot be written"),
    (["--N", "many"], "n must be a whole number, got 'many'"),
    (["--colour", "red"], "colour"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_one_line_and_exit_code_2(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt", *change))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("certify.py: error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_another_runs_output_is_refused_and_can_be_overwritten(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(words("o.txt"))
    table = (tmp_path / "o.txt").read_text()
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt", "--N", "31"))
    assert stopped.value.code == 2
    assert "belongs to a different run (plan was" in capsys.readouterr().err
    assert (tmp_path / "o.txt").read_text() == table
    run(words("o.txt", "--N", "31", "--overwrite"))
    assert (tmp_path / "o.txt").read_text() != table


def test_labels_beyond_the_classifiers_classes(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "eleven.npz"
    np.savez(data, images=np.zeros((1, 32, 32), np.uint8), labels=np.array([10]))
    with pytest.raises(SystemExit):
        run(words("o.txt", "--dataset", str(data)))
    assert "label 10 is beyond the 10 classes of" in capsys.readouterr().err
    np.savez(data, images=np.zeros((1, 32, 32, 3), np.uint8), labels=np.array([1]))
    with pytest.raises(SystemExit):
        run(words("o.txt", "--dataset", str(data)))
    assert "takes images whose number of channels is 1, not 3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 5}, "line 2: image 200 has label 5, but the data give it 2"),
        ({"image": "0" * 16}, "line 2: image 200 is not the one that was certified"),
        ({"file": "cats/1.png"}, "line 2: image 200 is of the file 'cats/1.png', not of ''"),
        ({"alpha": 0.5}, "line 2: radius is"),
    ],
)
def test_a_finished_run_whose_lines_are_not_the_datas_is_refused_or_begun_anew(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    message: str,
) -> None:
    run(words("o.txt"))
    journal, table = tmp_path / "o.jsonl", rows(tmp_path / "o.txt")
    lines = journal.read_text().splitlines()
    fields = json.loads(lines[1]) | change
    fields["correct"] = fields["prediction"] == fields["label"]
    fields["checksum"] = _checksum(fields)
    lines[1] = json.dumps(fields)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as stopped:
        run(words("o.txt"))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    run(words("o.txt", "--overwrite"))
    assert rows(tmp_path / "o.txt") == table


def test_what_is_read_is_never_overwritten(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    classifier_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = classifier_file.read_bytes()
    for out in (classifier_file, tmp_path / "link.txt"):
        if out != classifier_file:
            os.link(classifier_file, out)
        with pytest.raises(SystemExit) as stopped:
            run(words(str(out), "--overwrite"))
        assert stopped.value.code == 2
        assert "is read by this command, and would be overwritten" in capsys.readouterr().err
        assert out.read_bytes() == before


def test_an_output_among_the_images_is_refused(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "images"
    (folder / "cats").mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        run([str(folder), *words(str(folder / "cats" / "o"))[1:]])
    assert stopped.value.code == 2
    assert f"lies in {folder}, which this command reads" in capsys.readouterr().err


def test_the_manifest_says_when_by_what_and_on_what(
    words: Command, run: Callable[[list[str]], None], tmp_path: Path
) -> None:
    run(words("o.txt"))
    manifest = tmp_path / "o.manifest.json"
    context = json.loads(manifest.read_text())["context"]
    assert datetime.now(UTC) - datetime.fromisoformat(context["begun"]) < timedelta(minutes=5)
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", context["made_by"]["git"])
    for name in ("timm", "torchvision", "pillow", "scipy", "lightning", "python"):
        assert re.match(r"\d+\.\d+", context["made_by"][name])
    assert "cpu" in context["device"]
    content = json.loads(manifest.read_text())
    content["context"]["begun"] = "2026-01-01T00:00:00+00:00"
    manifest.write_text(json.dumps(content))
    run(words("o.txt"))  # and when it was begun stays, whenever it goes on
    assert json.loads(manifest.read_text())["context"]["begun"] == "2026-01-01T00:00:00+00:00"


def test_of_few_images_all_are_taken_unless_the_run_was_begun_otherwise(
    words: Command,
    run: Callable[[list[str]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fourteen photographs are no 10,000: of a hundredth nobody would learn anything."""
    images = np.random.default_rng(0).integers(0, 256, (14, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(14) % 10)
    few = words("o.txt")
    few[0] = str(tmp_path / "few.npz")
    at = few.index("--skip")
    told, silent = few, few[:at] + few[at + 2 :]
    run(silent)
    out = capsys.readouterr().out
    assert "10 classes; all taken (auto: they are few)\n" in out
    assert len(rows(tmp_path / "o.txt")) == 15
    run([*told, "--overwrite"])
    assert "10 classes; every 200th taken: 1\n" in capsys.readouterr().out
    run(silent)  # goes on as it was begun
    assert "every 200th taken: 1 (as the run was begun)\n" in capsys.readouterr().out
    run([*silent, "--overwrite"])
    assert len(rows(tmp_path / "o.txt")) == 15


def test_of_many_images_every_hundredth_is_taken(tmp_path: Path) -> None:
    files = OutputFiles(str(tmp_path / "o.txt"))
    assert [chosen_skip(None, size, files, False) for size in (1, 1000, 1001, 10_000)] == [
        1, 1, 100, 100
    ]  # fmt: skip
    assert chosen_skip(7, 10, files, False) == 7
