"""Which version of the code runs."""

import subprocess
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
