"""Faults planted into the files of finished runs: each is told, with its image and its field."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import PLANS, finish
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from diffsmooth.pipeline.recheck import FORMAT_2, checksum
from diffsmooth.pipeline.run_recheck import Fault, Record, _one_setting, recheck_run
from diffsmooth.runs.names import OutputFiles, RunFiles
from diffsmooth.stats.errors import UserError

Fields = dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of each plan."""
    folder = tmp_path_factory.mktemp("runs")
    for name, plan in PLANS.items():
        finish(folder / f"{name}.txt", plan)
    return folder


@pytest.fixture(params=PLANS)
def files(request: pytest.FixtureRequest, runs: Path, tmp_path: Path) -> OutputFiles:
    return copied(runs, tmp_path, request.param)


@pytest.fixture(params=["label_aware", "majority"])
def some_files(request: pytest.FixtureRequest, runs: Path, tmp_path: Path) -> OutputFiles:
    """For what has little to do with the plan."""
    return copied(runs, tmp_path, request.param)


def copied(runs: Path, place: Path, name: str) -> OutputFiles:
    place.mkdir(exist_ok=True)
    for path in runs.glob(f"{name}.*"):
        shutil.copy(path, place)
    return OutputFiles(place / f"{name}.txt")


def found(files: RunFiles) -> list[tuple[str, object, str]]:
    """File, image and field of each fault."""
    return [fault[:1] + fault[2:4] for fault in faults_of(files)]


def faults_of(files: RunFiles) -> tuple[Fault, ...]:
    return recheck_run(files).faults


def lines_of(files: RunFiles) -> list[Fields]:
    return [json.loads(line) for line in files.journal.read_text().splitlines()]


def write(files: RunFiles, lines: list[Fields], repaired: bool = True) -> None:
    """Writes lines back, with checksums that fit."""
    for line in lines:
        if repaired and "checksum" in line:
            line["checksum"] = checksum(line)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    files.journal.write_text(text)


def change(files: RunFiles, at: int, repaired: bool = True, **changes: Any) -> object:
    """Changes fields of a line; gives its image."""
    lines = lines_of(files)
    lines[at] |= changes
    write(files, lines, repaired)
    return lines[at]["index"]


def place_of(files: RunFiles, holds: Callable[[Fields], bool]) -> int:
    return next(at for at, line in enumerate(lines_of(files)) if holds(line))


def test_what_a_run_has_written_is_found_right(files: OutputFiles) -> None:
    result = recheck_run(files)
    assert result.faults == ()
    assert [fields["index"] for _, fields in result.records] == list(range(0, 24, 2))


def test_a_change_of_any_field_is_told_by_the_checksum(some_files: OutputFiles) -> None:
    files = some_files
    for name in lines_of(files)[1].keys() - {"seconds", "format", "checksum"}:
        whole = files.journal.read_bytes()
        image = change(files, 1, repaired=False, **{name: 77})
        assert (
            any(fault[2:4] == (image, "checksum") for fault in faults_of(files)) or name == "index"
        )
        files.journal.write_bytes(whole)


DERIVED = (
    "correct", "status", "prediction", "radius", "p_lower", "n0", "n", "votes", "selected", "sigma",
    "alpha", "plan", "max_n", "max_radius", "grid", "first_look", "tolerance", "identity",
    "noise_source", "image_shape",
)  # fmt: skip
VALUES = st.sampled_from(
    [-1, 0, 1, 2, 3, 77, 0.25, 0.5, 0.75, 1.5, 1e300, True, False, None, "", "x", "certified",
     "abstained", "skipped", "failed", "fixed", [], [0.5], [3, 32, 32], {}, 2**70, -0.5]
)  # fmt: skip


def says_the_same(one: object, other: object) -> bool:
    """Whether two values of a journal's line are one: 0 and 0.0 are, 0 and false are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.sampled_from(list(PLANS)), at=st.integers(0, 11), name=st.sampled_from(DERIVED),
    value=VALUES,
)  # fmt: skip
def test_what_does_not_follow_is_named_though_the_checksum_was_repaired(
    plan: str, at: int, name: str, value: object, runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, plan)
    line = lines_of(files)[at]
    assume(not says_the_same(line[name], value))
    image = change(files, at, **{name: value})
    assert (files.journal.name, image, name) in found(files)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.sampled_from(list(PLANS)), at=st.integers(0, 11),
    name=st.sampled_from(
        ["selection_counts", "estimation_counts", "looks", "error", "index", "label", "seconds"]
    ),
    value=VALUES | st.lists(st.lists(st.integers(-1, 300), max_size=3), max_size=3),
)  # fmt: skip
def test_votes_that_no_run_has_cast_are_named_with_their_image(
    plan: str, at: int, name: str, value: object, runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, plan)
    line = lines_of(files)[at]
    assume(not says_the_same(line[name], value))
    assume(not (name == "seconds" and type(value) in (int, float) and 0 <= value < 1e300))  # type: ignore[operator]
    assume(not (name == "error" and line["error"] and type(value) is str and value))
    change(files, at, **{name: value})
    image = line["index"]
    told = [
        fault for fault in faults_of(files) if name == "index" or fault.image in (image, str(image))
    ]
    assert told


def nudged(files: RunFiles, **changes: Callable[[float], float]) -> list[tuple[str, object, str]]:
    at = place_of(files, lambda line: line["status"] == "certified" and line["radius"] > 0.1)
    line = lines_of(files)[at]
    image = change(files, at, **{name: by(line[name]) for name, by in changes.items()})
    return [fault[2:] for fault in found(files) if fault[1] == image] or found(files)


CERTIFY = [name for name in PLANS if name != "majority"]


@pytest.mark.parametrize("plan", CERTIFY)
@pytest.mark.parametrize("name", ["radius", "p_lower", "max_radius"])
def test_one_last_bit_more_is_told(plan: str, name: str, runs: Path, tmp_path: Path) -> None:
    files = copied(runs, tmp_path, plan)
    assert (name,) in nudged(files, **{name: lambda value: math.nextafter(value, 9)})


@pytest.mark.parametrize("plan", CERTIFY)
def test_by_another_scipy_the_last_bits_may_differ_but_not_beyond_what_is_proven(
    plan: str, runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, plan)
    manifest = json.loads(files.manifest.read_text())
    manifest["context"]["computed_by"] = "SciPy 9 on another machine"
    files.manifest.write_text(json.dumps(manifest))
    journal = files.journal.read_bytes()
    assert nudged(files, radius=lambda value: math.nextafter(value, 9)) == []
    files.journal.write_bytes(journal)
    assert ("radius",) in nudged(files, radius=lambda value: value * (1 + 2**-47))
    files.journal.write_bytes(journal)
    assert ("p_lower",) in nudged(files, p_lower=lambda value: value + 1e-11)


@pytest.mark.parametrize("digit", ["radius", "label", "predict", "correct"])
def test_one_printed_digit_more_is_told(files: OutputFiles, digit: str) -> None:
    header, *rows = files.table.read_text().splitlines()
    columns = header.split("\t")
    if digit not in columns:
        assert "majority" in files.name
        return
    cells = rows[3].split("\t")
    place = columns.index(digit)
    last = int(cells[place][-1])
    cells[place] = f"{cells[place][:-1]}{last + 1 if last < 9 else 8}"
    rows[3] = "\t".join(cells)
    files.table.write_text("\n".join([header, *rows]) + "\n")
    assert found(files) == [(files.table.name, cells[0], digit)]


def test_a_table_may_differ_in_the_time_alone(files: OutputFiles) -> None:
    text = files.table.read_text()
    lines = [line.rpartition("\t")[0] for line in text.splitlines()]
    files.table.write_text(
        "\n".join([lines[0] + "\ttime", *(f"{x}\t0.0001" for x in lines[1:])]) + "\n"
    )
    assert found(files) == []
    files.table.write_text(
        "\n".join([lines[0] + "\ttime", *(f"{x}\tnan" for x in lines[1:])]) + "\n"
    )
    assert {field for _, _, field in found(files)} == {"time"}


TABLES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a row less": (lambda rows: rows[:4] + rows[5:], "row"),
    "a row twice": (lambda rows: [*rows, rows[4]], "idx"),
    "another row": (lambda rows: [*rows, "99\t0\t0\t0.000000\t1\t0.0000"], "idx"),
    "other words": (lambda rows: ["index" + rows[0][3:], *rows[1:]], "header"),
    "another order": (lambda rows: [rows[0], *rows[:0:-1]], "rows"),
    "a column more": (lambda rows: [*rows[:4], rows[4] + "\t1", *rows[5:]], "row"),
    "an empty line": (lambda rows: [*rows[:4], "", *rows[4:]], "idx"),
    "Windows": (lambda rows: [row + "\r" for row in rows], "time"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_not_its_journals_is_told(some_files: OutputFiles, name: str) -> None:
    files = some_files
    rows = files.table.read_text().splitlines()
    change_rows, field = TABLES[name]
    files.table.write_bytes(("\n".join(change_rows(rows)) + "\n").encode())
    assert (files.table.name, field) in [(file, one) for file, _, one in found(files)]


def test_a_table_without_its_end_is_told(some_files: OutputFiles) -> None:
    files = some_files
    files.table.write_text(files.table.read_text()[:-1])
    assert found(files) == [(files.table.name, None, "end")]


def test_images_that_are_missing_twice_or_of_no_run_are_told(some_files: OutputFiles) -> None:
    files = some_files
    lines, name = lines_of(files), files.journal.name
    write(files, lines[:3] + lines[4:])
    assert (name, 6, "index") in found(files)  # and in the table, which has it
    write(files, [*lines, lines[3]])
    assert found(files) == [(name, 6, "index")]
    write(files, [*lines, lines[3] | {"index": 7}])
    assert (name, 7, "index") in found(files)
    write(files, [*lines, lines[3] | {"index": 99}])
    assert (name, 99, "index") in found(files)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sigma", 3.0), ("alpha", 0.4), ("max_n", 7), ("plan", "fixed"), ("grid", [9])],
)
def test_lines_of_another_setting_are_told_whatever_the_manifest_leaves_out(
    name: str, value: object, files: OutputFiles
) -> None:
    """Each may follow from its own votes, and no manifest need say sigma: one run has one."""
    lines = lines_of(files)
    if lines[4].get(name) == value:
        return
    records = [Record(n, line) for n, line in enumerate(lines, 1)]
    assert list(_one_setting(files, records)) == []
    records[4] = Record(5, {**lines[4], name: value})
    (fault,) = _one_setting(files, records)
    assert (fault.line, fault.image, fault.field) == (5, 8, name)


def test_a_manifest_of_millions_of_images_is_no_load(some_files: OutputFiles) -> None:
    files = some_files
    manifest = json.loads(files.manifest.read_text())
    manifest["identity"] |= {"size": 2**40, "skip": 1}
    files.manifest.write_text(json.dumps(manifest))
    missing = [fault for fault in faults_of(files) if fault.text.endswith("missing")]
    assert len(missing) == 1001
    assert missing[0].image == 1
    assert missing[-1].text == f"{2**40 - 12 - 1000:,} more images are missing"


def test_broken_lines_do_not_hide_the_others(some_files: OutputFiles) -> None:
    files = some_files
    lines = files.journal.read_text().splitlines()
    whole, name = "\n".join(lines) + "\n", files.journal.name
    for broken in ("{", "[1]", "null", "[" * 100_000, lines[2][:-1], '{"index":4,"index":4}', "{}"):
        files.journal.write_text(whole.replace(lines[2], broken))
        at_line = [fault for fault in faults_of(files) if fault.line == 3 and fault.file == name]
        assert at_line, broken
        assert (name, 4, "index") in found(files)  # missing
    files.journal.write_text(whole[:-1])
    assert found(files) == [(name, None, "end")]
    files.journal.write_bytes(b"\xff\xfe")
    assert found(files) == [(name, None, "content")]


def test_fields_that_no_line_has_and_formats_that_nobody_knows(some_files: OutputFiles) -> None:
    files = some_files
    name = files.journal.name
    assert change(files, 2, extra=1) == 4
    assert found(files) == [(name, 4, "'extra'")]
    lines = lines_of(files)
    del lines[2]["extra"]
    for form in (1, 3, "2", True):
        change(files, 2, **{"format": form})
        lines[2]["format"] = form
        write(files, lines)
        assert (name, 4, "format") in found(files)
    old = {key: value for key, value in lines[2].items() if key not in FORMAT_2}
    write(files, [*lines[:2], old, *lines[3:]])
    assert (name, 4, "format") in found(files)


@pytest.mark.parametrize(
    ("change_identity", "field"),
    [
        ({"sigma": 0.25}, "identity"), ({"threads": 9}, "identity"),
        ({"skip": 1}, "index"), ({"size": 30}, "index"), ({"extra": 1}, "identity"),
        ({"plan": "x"}, "plan"), ({"plan": None}, "plan"), ({"sigma": "0.5"}, "identity"),
        ({"size": -1}, "selection"), ({"command": "train"}, "identity"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_another_runs_is_told(
    some_files: OutputFiles, change_identity: Fields, field: str
) -> None:
    files = some_files
    manifest = json.loads(files.manifest.read_text())
    manifest["identity"] |= change_identity
    files.manifest.write_text(json.dumps(manifest))
    told = found(files)
    assert field in [one for _, _, one in told]
    # Every line bears the digest of the identity that it was made under.
    assert sum(one == "identity" for _, image, one in told if image is not None) == 12


def test_files_that_are_missing_or_broken_are_told(some_files: OutputFiles, tmp_path: Path) -> None:
    files = some_files
    for path, field in (
        (files.manifest, "file"),
        (files.table, "table"),
        (files.journal, "content"),
    ):
        kept = path.read_bytes()
        path.unlink()
        assert field in [one for _, _, one in found(files)]
        path.write_bytes(b"{}")
        assert found(files)
        path.write_bytes(kept)
    assert found(files) == []


def test_votes_that_were_left_out_to_end_a_sequential_run_early_are_told(
    runs: Path, tmp_path: Path
) -> None:
    for plan in ("grid", "tolerance"):
        files = copied(runs, tmp_path, plan)
        at = place_of(files, lambda line: len(line["looks"]) > 1)
        lines = lines_of(files)
        line = lines[at]
        n, s = line["looks"][-2]
        other = (line["selected"] + 1) % 4
        line["looks"] = line["looks"][:-1]
        line["estimation_counts"] = sorted(
            [[line["selected"], s], *([[other, n - s]] if n > s else [])]
        )
        line |= {"n": n, "votes": line["n0"] + n}
        write(files, lines)
        # What the fewer votes give follows from them, but the plan would have gone on.
        told = [fault for fault in faults_of(files) if fault.image == line["index"]]
        for fault in told:
            if fault.field in ("p_lower", "radius", "status", "prediction", "correct"):
                break
        else:
            assert any("but the plan goes on" in fault.text for fault in told)
        assert told


def test_an_image_that_a_label_aware_plan_skips_has_no_estimation(
    runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, "label_aware")
    at = place_of(files, lambda line: line["status"] == "skipped")
    label = lines_of(files)[at]["selected"]
    image = change(files, at, label=label)
    assert (files.journal.name, image, "looks") in found(files)
    at = place_of(files, lambda line: line["status"] == "certified")
    image = change(files, at, label=(lines_of(files)[at]["label"] + 1) % 4, correct=False)
    assert (files.journal.name, image, "looks") in found(files)


@pytest.mark.parametrize("plan", PLANS)
def test_void_votes_count_for_no_class_and_are_of_exact_noise_alone(
    plan: str, tmp_path: Path
) -> None:
    files = finish(tmp_path / "o.txt", PLANS[plan], void=True)
    assert found(files) == []
    at = place_of(files, lambda line: [-1, 1] in line["estimation_counts"])
    image = change(files, at, noise_source="floats")
    assert (files.journal.name, image, "noise_source") in found(files)
    if plan == "majority":
        image = change(files, at, noise_source="integer, drawn", prediction=0, status="answered")
        assert (files.journal.name, image, "prediction") in found(files)
    manifest = files.manifest.read_text().replace("integer, drawn", "floats")
    files.manifest.write_text(manifest)
    lines = lines_of(files)
    write(files, [line | {"noise_source": "floats"} for line in lines])
    voids = [line["index"] for line in lines if "[-1" in json.dumps(line)]
    told = {image for _, image, field in found(files) if field.endswith("_counts")}
    assert told == set(voids)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.sampled_from(list(PLANS)), which=st.integers(0, 2),
    at=st.floats(0, 1, exclude_max=True), put=st.binary(max_size=3), cut=st.booleans(),
)  # fmt: skip
def test_no_bytes_of_the_files_end_in_a_traceback(
    plan: str, which: int, at: float, put: bytes, cut: bool, runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, plan)
    path = (files.journal, files.manifest, files.table)[which]
    whole = path.read_bytes()
    place = int(at * len(whole))
    path.write_bytes(whole[:place] + put + (b"" if cut else whole[place + len(put) :]))
    assert all(str(fault).isprintable() for fault in faults_of(files))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": "their.plans:Mine(n0=1, n=2)"}, "their.plans:Mine is of another package"),
        ({"command": "attack"}, "verify is of what certify and predict write"),
    ],
)
def test_what_nobody_here_can_compute_again_is_refused(
    changes: Fields, message: str, runs: Path, tmp_path: Path
) -> None:
    files = copied(runs, tmp_path, "fixed")
    manifest = json.loads(files.manifest.read_text())
    manifest["identity"] |= changes
    files.manifest.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        recheck_run(files)


def test_runs_of_the_first_format_are_checked_without_a_manifest() -> None:
    """The stored journal of version 0.1 and those of the study, whose tables lie beside them."""
    study = Path(__file__).parents[2] / "docs/studies/fashion_mnist"
    for name in ("cohen", "diffsmooth"):
        result = recheck_run(RunFiles(study / f"{name}.jsonl"))
        assert (result.faults, len(result.records)) == ((), 500)
    old = Path(__file__).parents[1] / "runs/version_0_1/o.jsonl"
    (fault,) = faults_of(RunFiles(old))  # the test's files are without a table
    assert fault.field == "table"


@pytest.mark.parametrize("beyond", [10**6, 10**15])
def test_votes_for_a_class_that_no_network_has_are_told(files: OutputFiles, beyond: int) -> None:
    """In place of the class that got the fewest: all bounds follow from such votes, too."""
    at = place_of(
        files, lambda line: len(line["selection_counts"] or line["estimation_counts"]) > 2
    )
    line = lines_of(files)[at]
    changes = {}
    for name in ("selection_counts", "estimation_counts"):
        counts = dict(line[name])
        others = set(counts) - {line["selected"], line["label"], line["prediction"]}
        if others:
            counts[beyond] = counts.pop(max(others))
        changes[name] = sorted([k, n] for k, n in counts.items())
    image = change(files, at, **changes)
    assert {name for file, one, name in found(files) if one == image} == {
        name for name, counts in changes.items() if any(k == beyond for k, _ in counts)
    }
