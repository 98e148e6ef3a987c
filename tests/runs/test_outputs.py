import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_journal import make_record

from diffsmooth.runs.identity import RunIdentity
from diffsmooth.runs.journal import append_record
from diffsmooth.runs.line import to_line
from diffsmooth.runs.manifest import Manifest, RunContext, read_manifest
from diffsmooth.runs.names import OutputError, OutputFiles, Shard
from diffsmooth.runs.outputs import Outputs
from diffsmooth.runs.probes import Probe, check_ranks
from diffsmooth.runs.reading import read_run
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.results import Origin

PLAN = FixedSampleSize(n0=1, n=10, alpha=0.1)  # of `make_record`
IDENTITY = RunIdentity(
    command="certify", dataset="d", split="test", data="0", size=9, skip=1, max=-1, classifier="a",
    classifier_set="", diffusion_set="",
    diffusion="b", arch="c", input_layer="none", purifier="oneshot", convention="diffsmooth",
    steps=1, runs=1, ties="", pad="none", sigma=0.5, m=5,
    sigma_local=0.25, seed=0, local_seed=42,
    plan=str(PLAN), batch=50, threads=1, precision="float32", compile=False, noise_source="n",
    hardware="cpu", content="0", image_shape=(3, 32, 32), class_names=(), torch="1", numpy="2",
)  # fmt: skip
CONTEXT = RunContext(1, 1, "cpu", "a.pt", "b.pt", "data")
BEGUN = CONTEXT._replace(begun="2026-11-28T12:00:00+00:00")


OTHER = dataclasses.replace(IDENTITY, sigma=0.25)


def record_of(outputs: Outputs, index: int) -> ImageRecord:
    origin = Origin(outputs.digest, "n", "0", (3, 32, 32))
    return make_record(index, origin=origin)


def make_outputs(
    table: Path, identity: RunIdentity = IDENTITY, shard: Shard | None = None
) -> Outputs:
    return Outputs(OutputFiles(table), identity, shard)


@pytest.mark.parametrize(
    ("table", "journal"),
    [("o.txt", "o.jsonl"), ("o.tsv", "o.jsonl"), ("sigma_0.25", "sigma_0.25.jsonl")],
)
def test_only_txt_and_tsv_are_stripped(table: str, journal: str) -> None:
    assert OutputFiles(f"dir/{table}").journal == Path("dir") / journal


def test_a_run_resumes_under_its_own_identity_only(tmp_path: Path) -> None:
    table = tmp_path / "new" / "o.txt"
    first = make_outputs(table)
    first.claim(CONTEXT, overwrite=False)
    append_record(first.new_part(0), record_of(first, 4))
    first.release()
    for overwrite in (False, True):  # overwriting is for the files of others
        again = make_outputs(table)
        again.claim(CONTEXT._replace(devices=8), overwrite)
        assert [r.index for r in again.read_records()] == [4]
        again.release()
    with pytest.raises(OutputError, match=r"different run \(sigma was 0\.5, is 0\.25\)"):
        make_outputs(table, OTHER).claim(CONTEXT, overwrite=False)
    other = make_outputs(table, OTHER)
    other.claim(CONTEXT, overwrite=True)
    assert other.read_records() == []
    assert read_manifest(OutputFiles(table).manifest).identity == OTHER.stored()  # type: ignore[union-attr]
    other.release()


def test_what_lies_on_another_nodes_disk_is_not_taken_for_this_runs(tmp_path: Path) -> None:
    """Rank zero replaces the files of its own disk; those of the other node are still there."""
    earlier = make_outputs(tmp_path / "o.txt", OTHER)
    earlier.claim(CONTEXT, overwrite=False)
    earlier.finish([record_of(earlier, 4)])
    there = make_outputs(tmp_path / "o.txt")  # whose `claim` is rank zero's, elsewhere
    assert there.read_records() == []


def test_what_a_run_that_lost_its_files_still_writes_is_not_taken(tmp_path: Path) -> None:
    lost = make_outputs(tmp_path / "o.txt")
    lost.claim(CONTEXT, overwrite=False)
    part = lost.new_part(1)
    lost.release()
    winner = make_outputs(tmp_path / "o.txt", OTHER)
    winner.claim(CONTEXT, overwrite=True)
    append_record(part, record_of(lost, 4))
    assert winner.read_records() == []
    with pytest.raises(OutputError, match="another run has taken the files"):
        lost.finish([record_of(lost, 4)])
    winner.release()


def test_two_processes_never_work_on_one_output(tmp_path: Path) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(CONTEXT, overwrite=False)
    for identity in (IDENTITY, OTHER):
        with pytest.raises(OutputError, match="another process is at work on it"):
            make_outputs(tmp_path / "o.txt", identity).claim(CONTEXT, overwrite=True)
    first.release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_by_what_it_lacks(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OutputError, match=r"o\.txt: its file system has no file locks"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_who_has_no_locks_removes_none_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another host the same folder may have none."""
    first = make_outputs(tmp_path / "o.txt")
    first.claim(CONTEXT, overwrite=False)

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("fcntl.flock", flock)
        for act in (lambda o: o.claim(CONTEXT, overwrite=False), Outputs.hold):
            with pytest.raises(OutputError, match="has no file locks"):
                act(make_outputs(tmp_path / "o.txt"))
    with pytest.raises(OutputError, match="another process is at work on it"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)
    first.release()


def test_shards_work_side_by_side_but_not_the_same_one_twice(tmp_path: Path) -> None:
    table = tmp_path / "o.txt"
    shards = [make_outputs(table, shard=Shard(number, 3)) for number in (1, 2)]
    for shard in shards:
        shard.claim(CONTEXT, overwrite=False)
    busy = "another process is at work on it"
    for intruder in (make_outputs(table, shard=Shard(2, 3)), make_outputs(table)):
        with pytest.raises(OutputError, match=busy):
            intruder.claim(CONTEXT, overwrite=False)
    with pytest.raises(OutputError, match=busy):
        make_outputs(table, OTHER, Shard(3, 3)).claim(CONTEXT, overwrite=True)
    with pytest.raises(OutputError, match=busy):
        make_outputs(table).hold()
    for shard in shards:
        append_record(shard.new_part(0), record_of(shard, shard.shard.number))  # type: ignore[union-attr]
        shard.release()
    whole = make_outputs(table)
    whole.hold()
    assert [r.index for r in whole.read_records()] == [1, 2]
    with pytest.raises(OutputError, match=busy):
        make_outputs(table, shard=Shard(3, 3)).claim(CONTEXT, overwrite=False)
    whole.release()
    other = make_outputs(table, OTHER, Shard(3, 3))
    other.claim(CONTEXT, overwrite=True)
    third = make_outputs(table, OTHER, Shard(1, 3))  # may join at once
    third.claim(CONTEXT, overwrite=False)
    for outputs in (other, third):
        outputs.release()


def test_shards_are_disjoint_and_complete() -> None:
    selection = list(range(0, 100, 7))
    parts = [Shard.parse(f"{i}/4").share_of(selection) for i in (1, 2, 3, 4)]
    assert sorted(index for part in parts for index in part) == selection
    for wrong in ("0/4", "5/4", "1", "1/0", "-1/2", "a/b"):
        with pytest.raises(ValueError, match="shard must be I/K with 1 <= I <= K"):
            Shard.parse(wrong)


def test_files_of_the_users_in_the_parts_survive(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    outputs.claim(CONTEXT, overwrite=False)
    for name in ("notes.md", "x.jsonl", "lockpick.txt"):
        (outputs.files.parts / name).write_text("precious")
    part = outputs.new_part(0)
    append_record(part, record_of(outputs, 7))
    outputs.finish(outputs.read_records())
    left = sorted(path.name for path in outputs.files.parts.iterdir())
    assert left == ["lockpick.txt", "notes.md", "x.jsonl"]
    again = make_outputs(tmp_path / "o.txt", OTHER)
    again.claim(CONTEXT, overwrite=True)
    again.finish([record_of(again, 8)])
    assert sorted(path.name for path in outputs.files.parts.iterdir()) == left


@pytest.mark.parametrize("name", ["o.txt", "o.jsonl", "o.parts", "o.parts/lock", "o.parts/x.jsonl"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_are_refused_before_any_vote(tmp_path: Path, name: str, overwrite: bool) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_text("precious")
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target if name == "o.parts" else target / "file")
    with pytest.raises(OutputError, match=r"is a link|no folder of ours"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite)
    assert (target / "file").read_text() == "precious"
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"is a link|no folder of ours"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("broken", ["journal", "part", "manifest", "digest", "sigma"])
def test_overwrite_starts_anew_whatever_state_the_files_are_in(tmp_path: Path, broken: str) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(CONTEXT, overwrite=False)
    part = first.new_part(0)
    origin = Origin(first.digest, "n", "0", (3, 32, 32))
    append_record(part, make_record(4, origin=origin))
    files = first.files
    manifest = files.manifest.read_text()
    match broken:
        case "journal":
            files.journal.write_text("{}\n")
        case "part":
            part.write_text('{"index": 1}\n')
        case "manifest":
            files.manifest.write_text(manifest[:-20])
        case "digest":  # edited; the line says that it was another
            files.manifest.write_text(manifest.replace('"threads": 1', '"threads": 2'))
            part.rename(files.journal)
        case "sigma":  # of a journal of format 1
            part.write_text(to_line(make_record(4)).replace('"sigma":0.5', '"sigma":0.6') + "\n")
    first.release()
    identity = dataclasses.replace(IDENTITY, threads=2) if broken == "digest" else IDENTITY
    again = make_outputs(tmp_path / "o.txt", identity)
    with pytest.raises(OutputError, match="choose another outfile, or remove"):
        again.claim(CONTEXT, overwrite=False)
    anew = make_outputs(tmp_path / "o.txt", identity)
    anew.claim(CONTEXT, overwrite=True)
    assert anew.read_records() == []
    anew.release()


def test_an_edited_manifest_of_a_finished_run_is_noticed(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    outputs.claim(CONTEXT, overwrite=False)
    origin = Origin(outputs.digest, "n", "0", (3, 32, 32))
    outputs.finish([make_record(4, origin=origin)])
    manifest = outputs.files.manifest
    whole = json.loads(manifest.read_text())
    whole["context"]["devices"] = 8  # may change
    manifest.write_text(json.dumps(whole))
    assert make_outputs(tmp_path / "o.txt").read_records() == [make_record(4, origin=origin)]
    whole["identity"]["sigma_local"] = 0.3
    manifest.write_text(json.dumps(whole))
    with pytest.raises(OutputError, match=r"o\.manifest\.json is not the manifest of .*o\.jsonl"):
        make_outputs(
            tmp_path / "o.txt", dataclasses.replace(IDENTITY, sigma_local=0.3)
        ).read_records()
    with pytest.raises(UserError, match="is not the manifest of"):
        read_run(outputs.files.table)


def test_what_a_later_version_adds_is_not_mixed_up(tmp_path: Path) -> None:
    stored = IDENTITY.stored()
    assert IDENTITY.difference(stored) == ""
    del stored["numerics"], stored["content"]  # before there were any
    assert IDENTITY.difference(stored) == ""
    assert dataclasses.replace(IDENTITY, numerics=2).difference(stored) == "numerics was 1, is 2"
    later = IDENTITY.stored() | {"quantised": True}
    assert "quantised is not known" in IDENTITY.difference(later)
    with pytest.raises(UserError, match="quantised is not known"):
        RunIdentity.from_stored(later)


def test_a_run_of_others_parts_is_never_joined(tmp_path: Path) -> None:
    (tmp_path / "o.parts").mkdir()
    (tmp_path / "o.parts" / "x.jsonl").write_text("precious")
    with pytest.raises(OutputError, match=r"x\.jsonl exists and is not of a run of ours"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)


def test_finishing_merges_the_parts_and_removes_them(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    outputs.claim(CONTEXT, overwrite=False)
    for rank, index in ((0, 7), (1, 3)):
        append_record(outputs.new_part(rank), record_of(outputs, index))
    records = outputs.read_records()
    outputs.finish(records)
    lines = outputs.files.table.read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["idx", "3", "7"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.jsonl", "o.manifest.json", "o.txt"]
    assert outputs.read_records() == records


def test_a_part_is_never_written_twice(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    assert outputs.new_part(0) != outputs.new_part(0)


@pytest.mark.parametrize("name", ["o.txt", "o.png", "o.jsonl"])
def test_files_of_others_are_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match="is not of a run of ours"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "precious")]


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        make_outputs(tmp_path).claim(CONTEXT, overwrite=False)
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(OutputError, match="cannot be written"):
        make_outputs(file / "o.txt").claim(CONTEXT, overwrite=False)
    with pytest.raises(UserError, match="outfile '' is not the name of a file"):
        OutputFiles("")
    for name, message in (
        ("a" * 250, "a name in it is longer than 255 bytes"),
        ("\u00e9" * 125 + ".txt", "a name in it is longer than 255 bytes"),
        (os.fsdecode(b"caf\xe9.txt"), "has bytes that are no UTF-8"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(UserError, match=message):
            OutputFiles(name)
    OutputFiles("a" * 241)


def test_a_broken_manifest_can_be_overwritten_only(tmp_path: Path) -> None:
    (tmp_path / "o.manifest.json").write_text("{}")
    with pytest.raises(OutputError, match=r"not a manifest .*: choose another outfile"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)
    outputs = make_outputs(tmp_path / "o.txt")
    outputs.claim(CONTEXT, overwrite=True)
    outputs.release()


def test_a_field_that_an_older_manifest_does_not_have_means_what_was_done_then() -> None:
    old = IDENTITY.stored()
    del old["classifier_set"], old["diffusion_set"]
    assert IDENTITY.difference(old) == ""
    other = dataclasses.replace(IDENTITY, classifier_set="state_dict_ema")
    assert other.difference(old) == "classifier_set was '', is 'state_dict_ema'"
    # The parts of a run in progress are found by the digest that they were written under.
    digest = hashlib.sha256(json.dumps(old, indent=2).encode()).hexdigest()[:16]
    file = Path("o.manifest.json")
    assert Manifest(file, old, {}).digest == digest != Manifest(file, IDENTITY.stored(), {}).digest


@pytest.mark.parametrize("name", ["o.txt", "o.jsonl", "o.png", "o.images.npz", "o.manifest.json"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_before_any_vote_and_nothing_is_lost(
    tmp_path: Path, name: str, overwrite: bool, make: Callable[[Path], None]
) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(CONTEXT, overwrite=False)
    first.finish([record_of(first, i) for i in range(9)])
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=rf"{name}: is a (folder|pipe), a file of our own"):
        make_outputs(tmp_path / "o.txt", OTHER).claim(CONTEXT, overwrite)
    assert sorted(tmp_path.iterdir()) == before


def test_a_pipe_among_the_parts_is_not_waited_for(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    outputs.claim(CONTEXT, overwrite=False)
    os.mkfifo(outputs.new_part(0))
    outputs.release()
    with pytest.raises(OutputError, match="is a pipe"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=True)


@pytest.mark.parametrize("name", ["device", "inputs", "outputs", "rounding"])
def test_probes_that_no_run_has_written_are_no_traceback(tmp_path: Path, name: str) -> None:
    outputs = make_outputs(tmp_path / "o.txt")
    probe = Probe("cpu", "0", "1", 0.0)
    outputs.claim(CONTEXT._replace(probes=(probe,)), overwrite=False)
    outputs.release()
    manifest = outputs.files.manifest
    whole = json.loads(manifest.read_text())
    whole["context"]["probes"][0][name] = []
    manifest.write_text(json.dumps(whole))
    with pytest.raises(OutputError, match="broken probes"):
        make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=False)
    make_outputs(tmp_path / "o.txt").claim(CONTEXT, overwrite=True)


def test_other_numbers_on_the_same_hardware_are_refused_unless_kernels_were_timed(
    tmp_path: Path,
) -> None:
    one, other = (Probe("gpu", "0", outputs, 0.0) for outputs in "12")
    with pytest.raises(OutputError, match="ranks 0 and 2 compute other numbers"):
        check_ranks([one, None, other])
    assert check_ranks([one, None, one], timed=True) == ""
    note = check_ranks([one, None, other], timed=True)
    assert "chosen by timing: ranks 0 and 2 round differently, which may tip near-ties" in note
    for kernels, refused in (("fixed", True), ("timed", False)):
        identity = dataclasses.replace(IDENTITY, kernels=kernels)
        out = tmp_path / f"{kernels}.txt"
        for probe in (one, other):
            outputs = make_outputs(out, identity)
            if refused and probe is other:
                with pytest.raises(OutputError, match="computed other numbers from the same batch"):
                    outputs.claim(CONTEXT._replace(probes=(probe,)), overwrite=False)
            else:
                outputs.claim(CONTEXT._replace(probes=(probe,)), overwrite=False)
                append_record(outputs.new_part(0), record_of(outputs, 4))
            outputs.release()


def test_a_run_that_finished_no_image_binds_nobody(tmp_path: Path) -> None:
    table, another = tmp_path / "o.txt", dataclasses.replace(IDENTITY, seed=1)
    one, other = (Probe("gpu", "0", outputs, 0.0) for outputs in "12")
    first = make_outputs(table)
    first.claim(BEGUN._replace(probes=(one,)), overwrite=False)
    first.new_part(0).touch()  # a process that was killed as it began its first line
    both = r"different run \(seed was 0, is 1\): another process is at work on it"
    with pytest.raises(OutputError, match=both):
        make_outputs(table, another).claim(BEGUN, overwrite=False)  # it may finish one yet
    first.release()
    again = make_outputs(table)  # the same options, and networks that were mended in their code
    again.claim(BEGUN._replace(probes=(other,)), overwrite=False)
    assert read_manifest(again.files.manifest).probes == [other]  # type: ignore[union-attr]
    again.release()
    mended = make_outputs(table, another)
    mended.claim(BEGUN, overwrite=False)
    assert read_manifest(mended.files.manifest).identity == another.stored()  # type: ignore[union-attr]
    append_record(mended.new_part(0), record_of(mended, 4))
    mended.release()
    with pytest.raises(OutputError, match="belongs to a different run"):
        make_outputs(table).claim(BEGUN, overwrite=False)
    assert [record.index for record in mended.read_records()] == [4]


def test_a_finished_run_whose_results_were_moved_binds(tmp_path: Path) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(BEGUN, overwrite=False)
    first.finish([record_of(first, 4)])
    first.release()
    for path in (first.files.table, first.files.journal):
        path.rename(tmp_path / f"archived_{path.name}")
    with pytest.raises(OutputError, match="belongs to a different run"):
        make_outputs(tmp_path / "o.txt", OTHER).claim(BEGUN, overwrite=False)


@pytest.mark.parametrize("context", [CONTEXT, BEGUN._replace(host="of other locks")])
def test_a_run_of_another_host_or_of_an_earlier_version_binds(
    tmp_path: Path, context: RunContext
) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(context, overwrite=False)
    first.release()
    with pytest.raises(OutputError, match="belongs to a different run"):
        make_outputs(tmp_path / "o.txt", OTHER).claim(BEGUN, overwrite=False)


@pytest.mark.parametrize("name", ["o.txt", "o.jsonl", "o.images.npz"])
def test_whatever_lies_beside_a_manifest_keeps_its_run(tmp_path: Path, name: str) -> None:
    first = make_outputs(tmp_path / "o.txt")
    first.claim(BEGUN, overwrite=False)
    first.release()
    (tmp_path / name).write_text("")
    with pytest.raises(OutputError, match="belongs to a different run"):
        make_outputs(tmp_path / "o.txt", OTHER).claim(BEGUN, overwrite=False)


def test_a_run_whose_choices_are_open_claims_nothing(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "o.txt", dataclasses.replace(IDENTITY, threads=None))
    with pytest.raises(ValueError, match="not chosen yet: threads"):
        outputs.claim(CONTEXT, overwrite=False)
    assert not outputs.files.manifest.exists()


def test_a_shard_that_is_run_again_leaves_the_run_finished(tmp_path: Path) -> None:
    whole = make_outputs(tmp_path / "o.txt")
    whole.claim(BEGUN, overwrite=False)
    whole.finish([record_of(whole, 4)])
    whole.release()
    before = read_manifest(whole.files.manifest)
    shard = make_outputs(tmp_path / "o.txt", shard=Shard(1, 2))
    shard.claim(BEGUN, overwrite=False)
    after = read_manifest(whole.files.manifest)
    assert before is not None
    assert after is not None
    assert after.context["computed_by"] == before.context["computed_by"]
