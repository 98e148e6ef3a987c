"""The help of train.py, stored: LightningCLI makes it in many seconds, from all of torch.

`python -m diffsmooth.cli.train_help` makes the texts anew.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
MADE_WITH = FOLDER / "made_with.txt"  # the versions that the texts depend on


def help_file(subcommand: str) -> Path:
    """Where the help of a subcommand is stored; "" stands for that of them all."""
    return FOLDER / f"{subcommand or 'train'}.txt"


def help_text(subcommand: str, prog: str) -> str:
    """The help of a subcommand, of a train.py that is called `prog`."""
    text = help_file(subcommand).read_text()
    return (
        text
        if prog.endswith(".py")
        else text.replace("python train.py", prog).replace("train.py", prog)
    )
