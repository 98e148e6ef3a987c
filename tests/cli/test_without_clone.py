"""The wheel, away from any clone: built by way of the sdist, as who installs it gets it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from diffsmooth.cli.main import COMMANDS

REPOSITORY = Path(__file__).parents[2]
GOLDEN = {
    "certification.jsonl", "pipeline_small.npz", "resnet.npz", "unet_small_guided.npz",
    "unet_small_improved.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / f"{next(folder.glob('*.whl')).name.split('-py3')[0]}.tar.gz").is_file()
    return next(folder.glob("*.whl"))


def diffsmooth(words: list[str], wheel: Path, folder: Path) -> str:
    """What the command prints that is installed from the wheel and called in `folder`."""
    site = wheel.parent / "site"
    if not site.exists():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "diffsmooth", *words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_has_what_is_imported_and_read_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "diffsmooth").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    assert {Path(name).name for name in names if "/golden/" in name and name[-3:] != ".py"} == (
        GOLDEN
    )
    places = (REPOSITORY / "diffsmooth/shipped/files.txt").read_text().split()
    shipped = {f"diffsmooth/shipped/{Path(place).name}" for place in [*places, "files.txt"]}
    assert {name for name in names if "/shipped/" in name and name[-3:] != ".py"} == shipped
    assert "diffsmooth/py.typed" in names
    assert all(name.startswith("diffsmooth/") for name in names)


@pytest.mark.slow
def test_the_demo_and_the_self_test_need_no_clone(wheel: Path, tmp_path: Path) -> None:
    usage = diffsmooth([], wheel, tmp_path)
    assert all(f"\n  {command} " in usage for command in COMMANDS)
    few = ["--skip", "500", "--n", "100", "--threads", "1"]
    table = diffsmooth(["demo", *few], wheel, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    lines = (tmp_path / "logs/demo.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["idx", "0", "500"]
    again = diffsmooth(["certify", "--config", "pkg:demo", *few], wheel, tmp_path)
    assert again.splitlines()[-1] == table.splitlines()[-1]
    assert "all agree with the stored results" in diffsmooth(
        ["doctor", "--self-test", "--accelerator", "cpu", "--precision", "float32"], wheel, tmp_path
    )
