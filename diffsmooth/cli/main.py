"""The console script `diffsmooth`: one word a command, each in a file of its own."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from diffsmooth import __version__
from diffsmooth.cli.completion import IN_COMPLETION, complete
from diffsmooth.lit.stopping import Stopped, stoppable
from diffsmooth.shown_text import escape_output, shown

COMMANDS = {
    "demo": "certified radii of 20 shipped images, by shipped networks: begin here",
    "train": "train base classifiers and diffusion models (also: python train.py)",
    "certify": "certified radii of a dataset's images (also: python certify.py)",
    "predict": "predictions of the smoothed classifier, without radii",
    "merge": "the table of a run that several processes did by --shard",
    "attack": "what attacks leave of a certified run's accuracy; whether its certificates hold",
    "tune": "sigma_local and m for a classifier, by what a run to come would certify",
    "visualize": "a grid of images, noisy and purified",
    "report": "tables, figures, TensorBoard and a page from the results of runs",
    "verify": "do the numbers of a finished run follow from its votes?",
    "export": "the weights of a training checkpoint, without the optimiser's state",
    "doctor": "what a checkpoint is, whether it works, and what a run with it costs",
    "bench": "votes a second on this machine, beside the published loop",
    "forecast": "votes, hours and load of a run to come",
}


USAGE = "\n".join(
    [
        "usage: diffsmooth COMMAND ...\n",
        *(f"  {name:9} {text}" for name, text in COMMANDS.items()),
        "\ndiffsmooth COMMAND --help explains a command's options.",
    ]
)
FORMAT_WARNING = warnings.formatwarning
GOES_ON = (
    "demo",
    "certify",
    "predict",
    "attack",
)  # the others begin anew; train says itself how it goes on


def main() -> None:
    """Runs the command that the first argument names, as all that the process does."""
    words = sys.argv[1:]
    _die_by_interrupts()
    sys.unraisablehook = end_in_callback
    if IN_COMPLETION in os.environ:
        complete([*COMMANDS])
    if not words or words[0] in ("-h", "--help", "--version"):
        _open_streams()
        with _printing("diffsmooth"):
            print(__version__ if words[:1] == ["--version"] else USAGE)
        return
    # sys.argv stays as it is: Lightning starts the other ranks by it.
    run(words[0], words[1:], f"diffsmooth {words[0]}")


def door(command: str) -> None:
    """Runs a command of the script COMMAND.py, as all that the process does."""
    _die_by_interrupts()
    sys.unraisablehook = end_in_callback
    run(command, sys.argv[1:], f"{command}.py")


def end_in_callback(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ends the process by one line where a library's callback had no memory, or met a signal.

    The library goes on with what it did not get: a figure would lack its text, for example.
    """
    error = unraisable.exc_value
    if isinstance(error, MemoryError):
        line, code = "error: out of memory: a smaller --batch may help", 2
    elif isinstance(error, Stopped):
        line, code = "stopped", int(str(error.code))
    else:
        sys.__unraisablehook__(unraisable)
        return
    print(f"diffsmooth: {line}", file=sys.stderr, flush=True)
    os._exit(code)


def _in_one_line(
    prog: str, message: Warning | str, category: type[Warning], filename: str, *place: Any
) -> str:
    """A warning of ours, without the line of the source that gave it; others' stay as they are."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        return f"{prog}: warning: {shown(message)}\n"
    return FORMAT_WARNING(message, category, filename, *place)


def _die_by_interrupts() -> None:
    """Before a command listens, and when it is done, Ctrl-C ends the process without a word.

    Python's own way would print where the imports, or the end of the process, were struck.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(command: str, words: list[str], prog: str) -> None:
    """Runs a command, called as `prog`, with the ends that are no mistake of an option's."""
    _open_streams()
    escape_output()
    warnings.formatwarning = partial(_in_one_line, prog)
    again = "goes on from here" if command in GOES_ON else "begins anew"
    # Ranks that lose rank zero would print the frames of torch's library, in thirty lines each.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with stoppable(prog, f"the same command {again}"):
        from diffsmooth.cli.errors import (  # only now: imports are slow, and torch's more so
            fail,
            give_back_reserve,
            user_errors,
        )

        if command not in COMMANDS:
            fail("diffsmooth", f"unknown command {command!r}: known are {', '.join(COMMANDS)}")
        try:
            Path.cwd()
        except OSError as error:  # Lightning and libraries of torch's look for it while they load
            fail(prog, f"the working directory is gone or closed to us ({error.strerror})")
        module = import_module(f"diffsmooth.cli.{command}")
        try:
            with _printing(prog):
                try:
                    module.main(words, prog=prog)
                except MemoryError as error:  # there was none left, even to say so
                    give_back_reserve()
                    with user_errors(prog):
                        raise error
        finally:
            give_back_reserve()


@contextmanager
def _printing(prog: str) -> Iterator[None]:
    """Around what prints: an output that takes no more is no bug."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
            raise
        # The reader, such as `head`, has seen enough, or the disk that the output goes to is
        # full; nothing more is to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.ENOSPC:
            from diffsmooth.cli.errors import fail

            fail(prog, f"cannot write what it prints ({error.strerror})")
        raise SystemExit(1) from None


def _open_streams() -> None:
    """Gives what was closed by the one who called (`>&-`) a place where nothing is kept.

    The next file to be opened would become the standard output, and bear what libraries print.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
