"""`diffsmooth train`, also `python train.py`: training, validation and test by LightningCLI."""

import sys

from diffsmooth.cli.errors import located_values, user_errors
from diffsmooth.cli.train_words import asked_help, check_words


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
    from diffsmooth.cli.lightning_cli import run_training  # torch and Lightning: it takes seconds

    run_training(words, prog)
