"""The console script `diffsmooth`: one word a command, each in a file of its own."""

import errno
import os
import sys
from importlib import import_module

from diffsmooth import __version__
from diffsmooth.cli.errors import fail
from diffsmooth.shown_text import escape_output

COMMANDS = {
    "train": "train base classifiers and diffusion models (also: python train.py)",
    "certify": "certified radii of a dataset's images (also: python certify.py)",
    "predict": "predictions of the smoothed classifier, without radii",
    "merge": "the table of a run that several processes did by --shard",
    "tune": "sigma_local and m for a classifier, chosen on held-out training images",
    "visualize": "a grid of images, noisy and purified",
    "report": "tables, figures, TensorBoard and a page from the results of runs",
    "export": "the weights of a training checkpoint, without the optimiser's state",
    "doctor": "what a checkpoint is, whether it works, and what a run with it costs",
    "bench": "votes a second on this machine, beside the published loop",
    "forecast": "votes, hours and load of a run to come",
}


def main() -> None:
    """Runs the command that the first argument names."""
    escape_output()
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:9} {text}" for name, text in COMMANDS.items()]
        print("usage: diffsmooth COMMAND ...\n\n" + "\n".join(lines))
        print("\ndiffsmooth COMMAND --help explains a command's options.")
        return
    if words[0] == "--version":
        print(__version__)
        return
    if words[0] not in COMMANDS:
        fail("diffsmooth", f"unknown command {words[0]!r}: known are {', '.join(COMMANDS)}")
    command = import_module(f"diffsmooth.cli.{words[0]}")  # only what is needed: torch is slow
    try:
        # sys.argv stays as it is: Lightning starts the other ranks by it.
        command.main(words[1:], prog=f"diffsmooth {words[0]}")
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # The reader, such as `head`, has seen enough, or the disk that the output goes to is full;
        # nothing more is to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.ENOSPC:
            fail(f"diffsmooth {words[0]}", f"cannot write what it prints ({error.strerror})")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
