"""Files are written whole or not at all, and nothing else is touched."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from diffsmooth.stats.errors import UserError
from diffsmooth.whole_file import PARTIAL, whole_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "page.html"
    write_whole(path, b"page")
    assert path.read_bytes() == b"page"
    assert names(path.parent) == ["page.html"]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(TypeError), whole_file(path) as partial:
        partial.write_bytes(None)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert names(tmp_path) == ["page.html"]


def test_a_link_that_was_planted_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary name is random, and must not be there: a foreseen one would be followed."""
    victim, path = tmp_path / "victim", tmp_path / "page.html"
    victim.write_text("precious")
    (tmp_path / f".page.html.{os.getpid()}").symlink_to(victim)
    write_whole(path, b"page")
    assert victim.read_text() == "precious"
    monkeypatch.setattr("secrets.token_hex", lambda size: "foreseen")
    (tmp_path / f"{PARTIAL}foreseen.partial").symlink_to(victim)
    with pytest.raises(UserError, match=r"page\.html: cannot be written \(File exists\)"):
        write_whole(path, b"again")
    assert victim.read_text() == "precious"
    assert path.read_text() == "page"


def test_two_writers_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other


KILLED = """
import os, signal, sys
from pathlib import Path
from diffsmooth.whole_file import whole_file

with whole_file(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    subprocess.run([sys.executable, "-c", KILLED, str(path)])
    (left,) = names(tmp_path)
    assert left.endswith(".partial")
    foreign = tmp_path / ".diffsmooth-another.host-0.partial"  # whose locks are not seen here
    foreign.touch()
    with whole_file(path) as partial:
        write_whole(tmp_path / "other.html", b"other")
        assert names(tmp_path) == sorted([foreign.name, partial.name, "other.html"])
        partial.write_bytes(b"page")
    assert names(tmp_path) == [foreign.name, "other.html", "page.html"]


def test_a_link_in_the_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "page.html"
    victim.write_text("precious")
    path.symlink_to(victim)
    write_whole(path, b"page")
    assert victim.read_text() == "precious"
    assert path.read_text() == "page"
    assert not path.is_symlink()


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "page.html", tmp_path / "plain"
    write_whole(path, b"page")
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "device.html").symlink_to("/dev/null")
    for name, problem in (("folder", "folder"), ("pipe", "pipe"), ("device", "device")):
        with pytest.raises(UserError, match=rf"{name}\.html: is a .*{problem}"):
            write_whole(tmp_path / f"{name}.html", b"page")
    assert names(tmp_path) == ["device.html", "folder.html", "pipe.html"]


def test_the_longest_name_that_the_file_system_takes(tmp_path: Path) -> None:
    write_whole(tmp_path / ("x" * 255), b"page")
    for path in (tmp_path / ("x" * 256), tmp_path / ("\xe9" * 128), tmp_path / ("x" * 256) / "y"):
        with pytest.raises(UserError, match="longer than 255 bytes"):
            write_whole(path, b"page")
    assert names(tmp_path) == ["x" * 255]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    full = pytest.raises(UserError, match=r"page\.html: cannot be written \(No space left")
    with full, whole_file(path), open("/dev/full", "wb", buffering=0) as device:
        device.write(b"page")
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"page\.html: cannot be written"):
        write_whole(tmp_path / "file" / "page.html", b"page")
