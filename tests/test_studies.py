"""What the studies publish follows from its votes, and names no place of a machine."""

import re
from pathlib import Path

import pytest

from diffsmooth.cli import report, verify
from diffsmooth.runs.manifest import read_manifest

STUDIES = Path(__file__).parents[1] / "docs/studies"


@pytest.mark.parametrize(
    "journal", sorted(STUDIES.glob("*/*.jsonl")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_a_published_run_is_verified(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify.main([str(journal)])
    assert "follows from the votes" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(STUDIES.glob("**/*.manifest.json")), ids=lambda p: p.stem)
def test_a_published_manifest_names_files_as_a_clone_has_them(path: Path) -> None:
    manifest = read_manifest(path)
    assert manifest is not None
    for name in ("classifier", "diffusion", "dataset", "data_root"):
        assert not Path(str(manifest.context[name])).is_absolute()


CIFAR10 = STUDIES / "cifar10"
ROWS = {
    "plain smoothing": "cohen", "diffusion denoised": "denoised", "purified": "purified",
    "DiffSmooth": "diffsmooth",
}  # fmt: skip
CELL = re.compile(r"\**(\d\.\d{3})\** \[(\d\.\d{3}), (\d\.\d{3})\]")


def test_the_table_of_cifar10_is_that_of_its_journals(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CIFAR10 / "README.md").read_text()
    table = page[page.index("| method | 0.00 |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == len(ROWS)
    for line in table:
        name = next(run for label, run in ROWS.items() if line.startswith(f"| {label}"))
        report.main(
            [str(CIFAR10 / f"{name}_0.50.jsonl"), "--radii", "0", "0.25", "0.5", "0.75", "1"]
        )
        said = [row.split()[1:] for row in capsys.readouterr().out.splitlines() if name in row]
        values, intervals = said[0][:6], said[1]
        cells = CELL.findall(line)
        assert [value for value, _, _ in cells] == values
        assert [f"{low}-{high}" for _, low, high in cells] == intervals


@pytest.mark.parametrize("other", ["cohen", "purified", "denoised"])
def test_the_tests_of_cifar10_are_those_of_its_journals(
    other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(CIFAR10 / f"{name}_0.50.jsonl") for name in ("diffsmooth", other)]
    report.main([*runs, "--paired", "--radii", "0.25", "0.5", "0.75", "1"])
    out = capsys.readouterr().out
    rows = [line.split() for line in out[out.index(" against ") :].splitlines()[2:6]]
    page = (CIFAR10 / "README.md").read_text()
    for wanted in (
        [row[1] for row in rows], [f"{row[2]}, {row[3]}" for row in rows], [row[5] for row in rows]
    ):  # fmt: skip
        assert f"| {' | '.join(wanted)} |" in page
