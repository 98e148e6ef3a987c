"""What a shell completes, by argcomplete: commands, their options, and the words of options.

The shell starts `diffsmooth` without words, and says the line in the environment.
"""

import os
import re
from argparse import ArgumentParser
from importlib import import_module

IN_COMPLETION = "_ARGCOMPLETE"  # the environment variable that asks for it


def complete(commands: list[str]) -> None:
    """Tells the shell how the line goes on; argcomplete then ends the process."""
    import argcomplete  # only where a shell asks

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    _, _, _, words, _ = argcomplete.split_line(line)
    if len(words) < 2 or words[1] not in commands:
        parser = ArgumentParser("diffsmooth", add_help=False)
        parser.add_argument("command", choices=commands)
        argcomplete.autocomplete(parser)
    os.environ[IN_COMPLETION] = "2"  # what the command's parser sees begins at its own name
    if words[1] == "train":
        argcomplete.autocomplete(train_parser(words[2:]))
    import_module(f"diffsmooth.cli.{words[1]}").main([])  # its parser does


def train_parser(words: list[str]) -> ArgumentParser:
    """The subcommands of train and their options, by the stored help: Lightning takes seconds."""
    from diffsmooth.cli.train import SUBCOMMANDS
    from diffsmooth.cli.train_help import help_text

    parser = ArgumentParser("train", add_help=False)
    parser.add_argument("subcommand", choices=SUBCOMMANDS)
    chosen = next((word for word in words if word in SUBCOMMANDS), "")
    options = re.findall(r"^  (?:-c \w+, )?(--[\w.]+)", help_text(chosen, "train.py"), re.MULTILINE)
    for option in dict.fromkeys(options):
        parser.add_argument(option)
    return parser
