"""Who resumes a run and who reports on it take the same files for the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_journal import make_record
from test_outputs import CONTEXT, make_outputs, record_of

from diffsmooth.cli import report
from diffsmooth.runs.journal import merge_records, read_journal
from diffsmooth.runs.line import to_line
from diffsmooth.runs.manifest import ManifestError, read_manifest
from diffsmooth.runs.names import OutputFiles, RunFiles
from diffsmooth.runs.outputs import Outputs
from diffsmooth.runs.reading import read_run
from diffsmooth.stats import FixedSampleSize, ImageRecord
from diffsmooth.stats.errors import UserError


@pytest.fixture
def finished(tmp_path: Path) -> Outputs:
    """A whole run, o.txt."""
    return finish(tmp_path / "o.txt")


def finish(table: Path) -> Outputs:
    outputs = make_outputs(table)
    outputs.claim(CONTEXT, overwrite=False)
    outputs.finish([record_of(outputs, i) for i in range(9)])
    return outputs


def resume(table: Path) -> list[ImageRecord]:
    outputs = make_outputs(table)
    outputs.claim(CONTEXT, overwrite=False)
    records = outputs.read_records()
    outputs.release()
    return records


@pytest.mark.parametrize("table", ["o.txt", "o.tsv", "sigma_0.25", "t.md", "o.jsonl.txt"])
def test_a_run_is_known_by_its_table_and_by_its_journal(tmp_path: Path, table: str) -> None:
    files = finish(tmp_path / table).files
    for path in (files.table, files.journal):
        beside = RunFiles.beside(path)
        assert (beside.name, beside.journal) == (files.name, files.journal)
        assert files.table in beside.whole
        run = read_run(path)
        assert (run.results.plan, len(run.records)) == ("fixed", 9)
    assert list(read_run(files.table).records) == resume(files.table)


@pytest.mark.parametrize("name", ["o.jsonl", "o.txt.jsonl"])
def test_no_table_is_named_like_a_journal(name: str) -> None:
    with pytest.raises(UserError, match=rf"outfile '{name}': \.jsonl is the ending of journals"):
        OutputFiles(name)


def test_a_report_does_not_overwrite_a_table_of_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = finish(tmp_path / "t.md").files
    with pytest.raises(SystemExit):
        report.main([str(files.journal), "--table", str(files.table)])
    assert "t.md: is of a run, and would be overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["o.jsonl", "o.manifest.json", "o.images.npz"])
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkdir, "is a folder"),
        (os.mkfifo, "is a pipe"),
        (lambda path: path.symlink_to("nowhere"), "is a link"),
    ],
)
def test_what_is_no_file_is_not_taken_for_nothing(
    finished: Outputs, name: str, make: Callable[[Path], None], what: str
) -> None:
    table = finished.files.table
    (table.parent / name).unlink(missing_ok=True)
    make(table.parent / name)
    with pytest.raises(UserError, match=f"{name}: {what}"):
        read_run(table)
    with pytest.raises(UserError, match=f"{name}: {what}"):
        resume(table)
    assert bool(make_outputs(table).done()) is (name == "o.images.npz")  # it is not read for that


def test_a_run_whose_manifest_is_gone_is_nobodys(finished: Outputs) -> None:
    files = finished.files
    files.manifest.unlink()
    for path in (files.table, files.journal):
        with pytest.raises(UserError, match=r"o\.manifest\.json: no such file, and without it"):
            read_run(path)
    with pytest.raises(UserError, match=r"o\.txt exists and is not of a run of ours"):
        resume(files.table)
    # Lines of format 1 do not say what run they are of.
    files.journal.write_text("".join(to_line(make_record(i)) + "\n" for i in range(9)))
    assert len(read_run(files.table).records) == 9


@pytest.mark.parametrize("probes", [[{"x": 1}], None, 3, [["cpu", "0", "1", 0.0]]])
def test_probes_that_no_run_has_written_are_no_manifest(finished: Outputs, probes: object) -> None:
    file = finished.files.manifest
    stored = json.loads(file.read_text())
    stored["context"]["probes"] = probes
    file.write_text(json.dumps(stored))
    for read in (read_manifest, lambda path: read_run(path.with_name("o.txt"))):
        with pytest.raises(ManifestError, match="broken probes"):
            read(file)
    with pytest.raises(UserError, match="broken probes"):
        resume(finished.files.table)


def test_a_link_stands_for_the_run_that_it_leads_to(finished: Outputs, tmp_path: Path) -> None:
    for ending in (".txt", ".jsonl"):
        link = tmp_path / f"link{ending}"
        link.symlink_to(tmp_path / f"o{ending}")
        run = read_run(link)
        assert (run.name, run.results.plan, len(run.records)) == ("link", "fixed", 9)
        link.unlink()
    # What lies beside the link itself goes before: a store of files may keep them by their digests.
    for name in ("o.txt", "o.jsonl", "o.manifest.json"):
        (tmp_path / f"digest of {name}").write_bytes((tmp_path / name).read_bytes())
        (tmp_path / f"kept_{name}").symlink_to(tmp_path / f"digest of {name}")
        (tmp_path / name).unlink()
    assert read_run(tmp_path / "kept_o.txt").results.plan == "fixed"


def test_a_remark_names_the_file_that_it_is_on(finished: Outputs) -> None:
    journal = finished.files.journal
    journal.write_text(journal.read_text() + '{"format":2')
    cut = "line 10, the last, is cut off and left out"
    assert read_run(journal).remarks == (cut,)
    assert read_run(finished.files.table).remarks == (f"o.jsonl, {cut}",)
    assert len(resume(finished.files.table)) == 9


def test_an_empty_journal_tells_a_report_nothing_and_a_run_that_nothing_is_done(
    finished: Outputs,
) -> None:
    finished.files.journal.write_text("")
    with pytest.raises(UserError, match=r"o\.jsonl, line 1: there is no image in it"):
        read_run(finished.files.table)
    assert resume(finished.files.table) == []


def test_of_two_failures_the_later_one_counts_wherever_they_are_read(tmp_path: Path) -> None:
    nothing = FixedSampleSize(n0=1, n=10, alpha=0.1).nothing(0.5)
    first, second = (ImageRecord(3, 1, 0.0, nothing, error) for error in ("no disk", "no pixels"))
    assert merge_records([first, second]) == [second]
    path = tmp_path / "j.jsonl"
    path.write_text(to_line(first) + "\n" + to_line(second) + "\n")
    journal = read_journal(path)
    assert (journal.records, journal.lines.tolist(), journal.remarks) == ((second,), [2], ())
