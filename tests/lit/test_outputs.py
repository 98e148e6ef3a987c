import dataclasses
from pathlib import Path

import pytest
from test_journal import make_record

from diffsmooth.lit.identity import RunIdentity
from diffsmooth.lit.journal import JournalWriter
from diffsmooth.lit.outputs import OutputError, Outputs, RunContext
from diffsmooth.stats.results import CERTIFY_COLUMNS

IDENTITY = RunIdentity(
    command="certify", dataset="d", split="test", data="0", skip=1, max=-1, classifier="a",
    diffusion="b", purifier="oneshot", sigma=0.5, m=5, sigma_local=0.25, seed=0, local_seed=42,
    plan="p", batch=50, threads=1, precision="float32", hardware="cpu",
)  # fmt: skip
CONTEXT = RunContext(1, 1, "cpu", "a.pt", "b.pt", "data")


@pytest.mark.parametrize(
    ("table", "journal"),
    [("o.txt", "o.jsonl"), ("o.tsv", "o.jsonl"), ("sigma_0.25", "sigma_0.25.jsonl")],
)
def test_only_txt_and_tsv_are_stripped(table: str, journal: str) -> None:
    assert Outputs(f"dir/{table}").journal == Path("dir") / journal


def test_a_run_resumes_under_its_own_identity_only(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "new" / "o.txt")
    outputs.prepare(IDENTITY, CONTEXT, overwrite=False)
    JournalWriter(outputs.part(0)).append(make_record(4))
    outputs.prepare(IDENTITY, CONTEXT._replace(devices=8), overwrite=False)
    assert [r.index for r in outputs.read_records()] == [4]
    other = dataclasses.replace(IDENTITY, sigma=0.25)
    with pytest.raises(OutputError, match=r"different run \(sigma was 0\.5, is 0\.25\)"):
        outputs.prepare(other, CONTEXT, overwrite=False)
    outputs.prepare(other, CONTEXT, overwrite=True)
    assert outputs.read_records() == []


def test_finishing_merges_the_parts_and_removes_them(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "o.txt")
    outputs.prepare(IDENTITY, CONTEXT, overwrite=False)
    for rank, index in ((0, 7), (1, 3)):
        JournalWriter(outputs.part(rank)).append(make_record(index))
    records = outputs.read_records()
    outputs.finish(records, CERTIFY_COLUMNS)
    assert [line.split("\t")[0] for line in outputs.table.read_text().splitlines()] == [
        "idx",
        "3",
        "7",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.jsonl", "o.manifest.json", "o.txt"]
    assert outputs.read_records() == records


def test_files_of_others_are_never_replaced(tmp_path: Path) -> None:
    table = tmp_path / "o.txt"
    table.write_text("precious")
    with pytest.raises(OutputError, match="is not of a run of ours"):
        Outputs(table).prepare(IDENTITY, CONTEXT, overwrite=False)
    assert table.read_text() == "precious"
    with pytest.raises(OutputError, match="is a folder"):
        Outputs(tmp_path).prepare(IDENTITY, CONTEXT, overwrite=False)
    with pytest.raises(OutputError, match="cannot be written"):
        Outputs(table / "o.txt").prepare(IDENTITY, CONTEXT, overwrite=False)
    table.unlink()
    (tmp_path / "o.manifest.json").write_text("{}")
    with pytest.raises(OutputError, match="broken; --overwrite starts anew"):
        Outputs(table).prepare(IDENTITY, CONTEXT, overwrite=False)
