"""`python -m diffsmooth.cli.train_help [FOLDER]`: makes the stored help of train.py anew."""

import contextlib
import io
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from diffsmooth.cli.train import SUBCOMMANDS
from diffsmooth.cli.train_help import FOLDER, MADE_WITH, help_file

FIXED = {"COLUMNS": "100", "NO_COLOR": "1"}  # the terminal of whoever makes them is not ours


def main(folder: Path) -> None:
    """Writes all texts to a folder."""
    from diffsmooth.cli.lightning_cli import TrainCLI

    os.environ |= FIXED
    sys.argv[0] = "train.py"
    for subcommand in ("", *SUBCOMMANDS):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            TrainCLI([*filter(None, [subcommand]), "--help"], "train.py")
        lines = [line.rstrip() + "\n" for line in text.getvalue().splitlines()]
        (folder / help_file(subcommand).name).write_text("".join(lines))
    (folder / MADE_WITH.name).write_text(versions())


def versions() -> str:
    """What the texts depend on, beside our own code."""
    python = ".".join(platform.python_version_tuple()[:2])
    packages = "".join(f"{name} {version(name)}\n" for name in ("lightning", "jsonargparse"))
    return f"python {python}\n{packages}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
