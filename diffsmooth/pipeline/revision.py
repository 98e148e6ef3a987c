"""Which version of the code runs, and of what it stands on."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import diffsmooth


def git_revision() -> str:
    """The commit of the clone that the package lies in, "-dirty" if changed; "" outside of one."""
    folder = Path(diffsmooth.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", diffsmooth.__file__):
            return ""  # installed in somebody else's repository
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if commit and git("status", "--porcelain", "-uno") else commit
    except OSError:  # no git here
        return ""


def versions() -> dict[str, str]:
    """What a run was made by, beyond the versions in its identity."""
    found = {"git": git_revision(), "python": platform.python_version()}
    for name in ("scipy", "lightning", "timm", "torchvision", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
