"""What is said of the packages that we stand on: their versions, and an audit that was not done."""

import re
import subprocess
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
Audit = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """`make audit` by a pip-audit that does what a line of shell says, FOUND being its output."""

    def call(line: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "bin").mkdir()
        (tmp_path / "installed").touch()
        program = tmp_path / "bin" / "pip-audit"
        program.write_text(f"#!/bin/sh\nFOUND={tmp_path}/found.txt\n{line}\n")
        program.chmod(0o755)
        words = ["make", "--no-print-directory", "audit", f"AUDIT={tmp_path}"]
        return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)

    return call


def test_an_audit_that_found_nothing(audit: Audit) -> None:
    done = audit('case "$*" in *--strict*) exit 0;; *) exit 9;; esac')
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "audit: no known vulnerability in constraints.txt",
    )


def test_an_audit_that_found_something(audit: Audit) -> None:
    done = audit("echo torch 2.11 PYSEC-1 > $FOUND; exit 1")
    assert done.returncode != 0
    assert done.stdout.strip() == "torch 2.11 PYSEC-1"


@pytest.mark.parametrize("line", ["echo Traceback >&2; echo no route >&2; exit 1", "exit 127"])
def test_an_audit_that_could_not_be_done_is_not_green(audit: Audit, line: str) -> None:
    done = audit(line)
    assert done.returncode != 0
    assert done.stdout == ""
    said, _ = done.stderr.splitlines()  # the other is make's
    assert said.startswith("audit: not done, the data base could not be asked:")
    assert "no route" in said or "127" in line


def test_every_requirement_has_a_version_and_hashes() -> None:
    text = (REPOSITORY / "constraints.txt").read_text()
    entries = re.findall(
        r"^([\w.-]+)(?:\[[^]]*\])?==\S+((?: \\\n    --hash=sha256:\w{64})+)$", text, re.M
    )
    locked = {name.replace("_", "-").lower() for name, _ in entries}
    assert len(entries) == len(re.findall("^[^ #\n]", text, re.M))
    needed = [line for line in requires("diffsmooth") or []]
    names = {re.match(r"[\w.-]+", line)[0].replace("_", "-").lower() for line in needed}  # type: ignore[index]
    assert names - {"diffsmooth"} <= locked
