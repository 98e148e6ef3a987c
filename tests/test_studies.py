"""What the studies publish follows from its votes, and names no place of a machine."""

from pathlib import Path

import pytest

from diffsmooth.cli import verify
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
