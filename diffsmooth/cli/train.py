"""`diffsmooth train`, also `python train.py`: training, validation and test by LightningCLI.

What can be known of its words is known before Lightning is imported, which takes seconds.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

from diffsmooth.cli.errors import check_configs, is_path, located_values, user_errors
from diffsmooth.pipeline.output_checks import check_trained
from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

SUBCOMMANDS = ("fit", "validate", "test")
KEYWORDS = ("best", "last", "hpc")  # of Lightning's --ckpt_path


def main(args: list[str] | None = None, prog: str = "train.py") -> None:
    """Runs fit, validate or test on `args`, by default the process's."""
    words = sys.argv[1:] if args is None else args
    asked = asked_help(words)
    if asked is not None:
        from diffsmooth.cli.train_help import help_text

        print(help_text(asked, prog), end="")
        return
    with user_errors(prog):
        words = located_values(words, "-c", "--config", "--ckpt_path")
        check_words(words)
    from diffsmooth.cli.lightning_cli import run_training

    run_training(words, prog)


def asked_help(words: Sequence[str]) -> str | None:
    """The subcommand whose help is asked for, "" for that of them all, None where none is."""
    for at, word in enumerate(words):
        if word in ("-h", "--help"):
            return next((before for before in words[:at] if before in SUBCOMMANDS), "")
    return None


def check_words(words: Sequence[str]) -> None:
    """Raises UserError for an unknown subcommand, and for files that are not there."""
    if not words or not (words[0].startswith("-") or words[0] in SUBCOMMANDS):
        said = f"unknown subcommand {quoted(words[0])}" if words else "a subcommand is wanted"
        raise UserError(f"{said}: known are {', '.join(SUBCOMMANDS)} (--help explains them)")
    check_configs(_values(words, "-c", "--config"))
    for checkpoint in _values(words, "--ckpt_path"):
        if checkpoint not in KEYWORDS and is_path(checkpoint):
            check_trained(checkpoint)


def _values(words: Sequence[str], *options: str) -> Iterator[str]:
    for word, after in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option in options and (equals or after):
            yield value if equals else after
