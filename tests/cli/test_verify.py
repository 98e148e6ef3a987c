"""`diffsmooth verify` on runs of certify and predict: verdicts, exit codes, votes cast again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import known_truth
import numpy as np
import pytest
import torch
from known_truth import SIGMA

from diffsmooth.cli import certify, predict, verify
from diffsmooth.pipeline.recheck import checksum
from diffsmooth.runs.journal import read_journal
from diffsmooth.runs.line import from_line, to_line
from diffsmooth.runs.manifest import read_manifest
from diffsmooth.runs.names import RunFiles
from diffsmooth.runs.outputs import to_tsv
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.certificate import Look, Votes
from diffsmooth.stats.plan_words import plan_of_text
from diffsmooth.stats.results import CERTIFY_COLUMNS

CODE = ["--classifier", "known_truth:HalfSpace", "--weights"]
SEQUENTIAL = ["--plan", "group_sequential", "--first_look", "10"]
Out = tuple[int, str]


class Place:
    """A folder with images, a classifier's weights, and a run's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.weights = known_truth.write(known_truth.half_space(), folder, 16)
        self.files = RunFiles(folder / "o.txt")
        self.table = folder / "o.txt"

    def run(self, *words: str, command: Any = certify) -> None:
        command.main([
            str(self.data), "known_truth:HalfSpace", str(SIGMA), str(self.table), "--weights",
            str(self.weights), "--purifier", "none", "--m", "1", "--local_noise_sd", "0", "--skip",
            "2", "--N", "60", "--batch", "32", "--precision", "float32", "--threads", "1",
            "--accelerator", "cpu", "--no_sanity_check", "--logdir", str(self.folder / "logs"),
            *(["--N0", "10", "--alpha", "0.05"] if command is certify else []), *words,
        ])  # fmt: skip

    @property
    def code(self) -> list[str]:
        """What a file does not choose."""
        return [*CODE, str(self.weights)]

    def forge(self, change: Callable[[int, dict[str, Any]], object], **identity: Any) -> None:
        """Rewrites the run so that all follows from votes that were never cast.

        Args:
            change: changes the votes of an image, in place.
            identity: fields of the manifest that are to say something else.
        """
        text = json.loads(self.files.manifest.read_text())
        text["identity"] |= identity
        self.files.manifest.write_text(json.dumps(text))
        manifest = read_manifest(self.files.manifest)
        assert manifest is not None
        plan, records = plan_of_text(manifest.identity["plan"]), list[ImageRecord]()
        for line in map(json.loads, self.files.journal.read_text().splitlines()):
            change(line["index"], line)
            selection, estimation = (
                tuple((k, n) for k, n in line[f"{name}_counts"])
                for name in ("selection", "estimation")
            )
            looks = tuple(Look(*look) for look in line["looks"])
            certificate = plan.conclude(SIGMA, Votes(selection, estimation, looks))
            line |= json.loads(to_line(ImageRecord(0, 0, 0.0, certificate))) | {
                name: line[name] for name in ("index", "label", "seconds")
            }
            line["correct"] = line["prediction"] == line["label"]
            line["identity"] = manifest.digest
            line["checksum"] = checksum(line)
            records.append(from_line(json.dumps(line)))
        self.files.journal.write_text("".join(to_line(record) + "\n" for record in records))
        self.table.write_text(to_tsv(records, CERTIFY_COLUMNS))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def answer(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[..., Out]:
    """Exit code and output of the command."""

    def call(*words: str) -> Out:
        capsys.readouterr()
        code: Any = 0
        try:
            verify.main([str(place.table), *words])
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, (said.err.splitlines()[-1] if code == 2 else said.out)

    return call


def one_vote(index: int, line: dict[str, Any]) -> None:
    """Moves one vote of image 4, if there is one, to the selected class."""
    if index == 4:
        move(line, 1)


def move(line: dict[str, Any], votes: int) -> None:
    counts, selected = dict(line["estimation_counts"]), line["selected"]
    counts[selected] += votes
    counts[1 - selected] -= votes
    line["estimation_counts"] = sorted([k, n] for k, n in counts.items() if n)
    line["looks"][-1][1] += votes


RUNS: dict[str, tuple[Any, list[str]]] = {
    "fixed": (certify, []),
    "float": (certify, ["--noise", "float"]),
    "device": (certify, ["--noise", "device"]),
    "grid": (certify, [*SEQUENTIAL, "--radii", "0.05", "0.15"]),
    "tolerance": (certify, [*SEQUENTIAL, "--tolerance", "0.3"]),
    "label_aware": (certify, [*SEQUENTIAL, "--radii", "0.05", "0.15", "--label_aware"]),
    "predict": (predict, ["--alpha", "0.05"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_found_right_and_its_votes_are_cast_again(
    name: str, place: Place, answer: Callable[..., Out]
) -> None:
    command, words = RUNS[name]
    place.run(*words, command=command)
    what = "answer" if name == "predict" else "bound and radius"
    said = f"{place.table}: the table follows from the votes: 8 images, each {what} computed again"
    assert answer() == (0, f"{said}\n")
    code, out = answer("--replay", "5", "--seed", "3", *place.code)
    assert (code, out.startswith(f"{said}; 5 images voted again (seed 3): none of ")) == (0, True)
    assert out.endswith(" votes differ\n")


def test_votes_that_were_invented_are_found_by_casting_them_again(
    place: Place, answer: Callable[..., Out]
) -> None:
    place.run("--noise", "float")
    place.forge(one_vote)
    assert answer()[0] == 0  # all follows from them
    code, out = answer("--replay", "99", *place.code)
    assert code == 1
    first, fault = out.splitlines()
    assert "the table does NOT follow from the votes: 1 fault; 8 images, each" in first
    assert "8 images voted again" in first
    assert "1 of 560 votes differs" in first
    assert fault.startswith("  o.jsonl, image 4: votes were {")


@pytest.mark.parametrize("field", ["torch", "numpy", "hardware"])
def test_elsewhere_near_ties_may_tip_within_the_stated_share(
    field: str, place: Place, answer: Callable[..., Out]
) -> None:
    place.run("--noise", "float")
    place.forge(one_vote, **{field: "another"})
    code, out = answer("--replay", "8", *place.code)
    assert (code, out.count("\n")) == (0, 1)
    assert "1 of 560 votes differs, of which up to 0.01 an image may tip, since " in out
    assert f"since {field} was 'another', is " in out
    assert answer("--replay", "8", "--tipped", "1e-9", *place.code)[0] == 0  # one always may
    place.forge(lambda index, line: move(line, 3) if index == 4 else None)
    code, out = answer("--replay", "8", *place.code)
    assert code == 1
    assert "  o.jsonl, image 4: votes were " in out
    assert answer("--replay", "8", "--tipped", "0.1", *place.code)[0] == 0


def test_votes_beyond_where_the_plan_stops_here_are_cast_again_too(
    place: Place, answer: Callable[..., Out]
) -> None:
    place.run("--noise", "float", *SEQUENTIAL, "--tolerance", "0.3")
    records = read_journal(place.files.journal).records
    honest = sum(one.certificate.n0 + one.certificate.n for one in records)

    def later(index: int, line: dict[str, Any]) -> None:
        """Half of the first look's votes are for the class, so that the plan goes on, then all."""
        manifest, selected = read_manifest(place.files.manifest), line["selected"]
        assert manifest is not None
        run = plan_of_text(manifest.identity["plan"]).start(SIGMA, 2, line["label"])
        counts = np.zeros(2, np.int64)
        for k, n in line["selection_counts"]:
            counts[k] = n
        run.update(counts)
        n = s = 0
        line["looks"] = []
        while run.wanted:
            fresh = run.wanted
            for_it = fresh if n else fresh // 2
            counts[[selected, 1 - selected]] = for_it, fresh - for_it
            run.update(counts)
            n, s = n + fresh, s + for_it
            line["looks"].append([n, s])
        line["estimation_counts"] = sorted([[selected, s], [1 - selected, n - s]])

    place.forge(later, torch="another")
    records = read_journal(place.files.journal).records
    forged = sum(one.certificate.n0 + one.certificate.n for one in records)
    assert forged > honest
    code, out = answer("--replay", "8", "--tipped", "0.9", *place.code)
    assert code == 0
    assert f" of {forged} votes differ, of which up to 0.9 an image may tip" in out


def test_a_machine_that_computes_otherwise_is_known_by_the_probe_batch(
    place: Place, answer: Callable[..., Out]
) -> None:
    place.run("--noise", "float")
    place.forge(one_vote)
    text = json.loads(place.files.manifest.read_text())
    for probe in text["context"]["probes"]:
        probe["outputs"] = "0"
    place.files.manifest.write_text(json.dumps(text))
    code, out = answer("--replay", "8", *place.code)
    assert code == 0
    assert "may tip, since this machine rounds otherwise" in out


def test_other_networks_or_images_are_refused(place: Place, answer: Callable[..., Out]) -> None:
    place.run()
    other = place.folder / "other.pt"
    weights = known_truth.half_space().weights
    torch.save({name: value + 1 for name, value in weights.items()}, other)
    code, line = answer("--replay", "1", *CODE, str(other))
    assert (code, "not the networks and images of the run (classifier was" in line) == (2, True)
    with np.load(place.data) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    images[3, 0, 0] ^= 1
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    np.savez(elsewhere / "truth.npz", images=images, labels=labels)
    words = ["--dataset", str(elsewhere / "truth.npz"), *place.code]
    code, line = answer("--replay", "1", *words)
    assert (code, "the networks and images of the run (data was" in line) == (2, True)
    place.data.rename(elsewhere / "truth.npz")
    code, line = answer("--replay", "1", *place.code)
    assert (code, "truth.npz: no such file or folder" in line) == (2, True)
    assert answer("--replay", "1", *words)[0] == 0


def test_a_manifest_does_not_choose_what_is_run(
    place: Place, answer: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "evil_module.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(place.folder)
    monkeypatch.chdir(place.folder)
    place.run()
    code, line = answer("--replay", "1")
    assert code == 2
    assert "give --classifier 'known_truth:HalfSpace' if you trust it" in line
    text = json.loads(place.files.manifest.read_text())
    for part, name in (("context", "classifier"), ("context", "dataset"), ("identity", "purifier"),
                       ("identity", "arch"), ("identity", "plan")):  # fmt: skip
        forged = json.loads(json.dumps(text))
        forged[part][name] = "evil_module:thing"
        place.files.manifest.write_text(json.dumps(forged))
        words = place.code if name != "classifier" else place.code[2:]
        assert answer("--replay", "1", *words)[0] in (1, 2)
    assert "evil_module" not in sys.modules


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_is_found_where_the_manifest_says(
    place: Place, answer: Callable[..., Out], classifier_file: Path
) -> None:
    certify.main([
        "fashion_mnist_sample", str(classifier_file), "0.5", str(place.table), "--purifier", "none",
        "--skip", "400", "--N0", "4", "--N", "12", "--batch", "8", "--m", "2", "--threads", "1",
        "--logdir", str(place.folder / "logs"), "--accelerator", "cpu", "--no_sanity_check",
    ])  # fmt: skip
    code, out = answer("--replay", "2")
    assert (code, "2 images voted again" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--replay", "0"], "replay must be at least 1, got 0"),
        (["--replay", "2", "--tipped", "2"], "tipped must be in (0, 1), got 2"),
        (["--replay", "2", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["--replay", "2", "--accelerator", "x"], "accelerator must be auto, cpu or gpu, got 'x'"),
        (["--N", "100"], "n is of tables without a journal, which tells it itself"),
        (["--sigma", "0.5"], "sigma is of tables without a journal"),
    ],
)
def test_mistakes_are_named(
    words: list[str], message: str, place: Place, answer: Callable[..., Out]
) -> None:
    place.run()
    code, line = answer(*words)
    assert (code, message in line) == (2, True)


def test_of_several_runs_each_has_its_line(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.run()
    other = place.folder / "table.txt"
    other.write_bytes(place.table.read_bytes())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        verify.main([str(place.table), str(place.files.journal), str(other)])
    assert stopped.value.code == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.replace("o.txt", "o.jsonl") == second
    assert third.startswith(
        f"{other}: cannot tell: nothing in 8 lines contradicts, but which radii"
    )
    with pytest.raises(SystemExit) as stopped:
        verify.main([str(place.table), str(other), "--replay", "1"])
    assert stopped.value.code == 2
    assert "replay needs the journal of each run" in capsys.readouterr().err


def test_a_run_of_attacks_is_none_that_it_can_judge(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.run()
    text = json.loads(place.files.manifest.read_text())
    text["identity"]["command"] = "attack"
    place.files.manifest.write_text(json.dumps(text))
    with pytest.raises(SystemExit) as stopped:
        verify.main([str(place.table)])
    assert stopped.value.code == 2
    assert "verify is of what certify and predict write, no attacks" in capsys.readouterr().err
