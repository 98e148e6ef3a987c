"""How the help of a command looks: its options in groups, in words, and an example at the end."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

# In the order in which a newcomer asks.
GROUPS = {
    title: names.split()
    for title, names in {
        "data": "dataset data_root split skip max images trained_images validation_images "
        "validation_seed image_size exif",
        "networks": "classifier arch normalize weights diffusion convention pad unsafe_load",
        "smoothing": "m local_noise_sd sigma_local purifier steps runs noise seed local_seed sigma",
        "plan": "n0 n alpha plan radii tolerance label_aware first_look radius planned_n "
        "sanity_check",
        "output": "outfile overwrite dry_run quiet json logger logdir",
        "hardware": "accelerator devices num_nodes shard threads batch precision compile kernels "
        "in_flight",
    }.items()
}
ANOTHER_FORM = "as the argument above"
"""The help of what is left out of the help; argparse's own word for it would leave it out of
--print_config, too."""
# Of the libraries' options, by their names: what is true of them here.
REWORDED = {
    "print_config": "print what this line says, wherever it stands there, and the defaults, as "
    "such a file, and exit; =skip_default: only what differs from the defaults",
    "ckpt_path": "a checkpoint's file: to go on from, of fit; whose weights are evaluated, of "
    "validate and test. last, of fit: the last one that the same command has saved",
}
NUMBERS = ("int", "float")  # of other types the text tells more


class HelpLayout(DefaultHelpFormatter):
    """Says of an option what it means, whether it is required, its kind of number, its default.

    Examples keep their lines.
    """

    def add_argument(self, action: Action) -> None:
        if action.help is not ANOTHER_FORM:
            super().add_argument(action)

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        said = ["required"] if action.required and action.option_strings else []
        if action.dest in REWORDED:
            text = REWORDED[action.dest]
        elif "default" not in text.lower():
            said += filter(None, [plain_type(self._get_type_str(action) or "")])
            if action.option_strings and action.default not in (None, SUPPRESS, [], ""):
                said.append(f"default: {plain_value(action.default)}")
        if known := getattr(action, "extra_help", str)():
            said.append(known.strip(", "))  # the classes that it may be
        return f"{text} ({', '.join(said)})" if said else text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)


def plain_type(text: str) -> str:
    """A type as it is said: numbers by their kind, and a word that may stand for one."""
    kinds = [word for word in NUMBERS if re.search(rf"\b{word}\b", text)]
    words = [word.strip("'\"") for word in re.findall(r"Literal\[([^\]]*)\]", text)]
    return " or ".join([*kinds, *words] if kinds else [])


def plain_value(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, list):
        return " ".join(map(plain_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def short_usage(parser: ArgumentParser) -> str:
    """The usage of a command whose options are explained below it."""
    by_place = [action for action in parser._actions if not action.option_strings]
    words = [f"[{a.dest} ...]" if a.nargs == "*" else a.dest for a in by_place]
    several = [" ..." if a.nargs == "+" else "" for a in by_place]
    return " ".join(["%(prog)s [options]", *map("".join, zip(words, several, strict=True))])


def example_text(prog: str, examples: Sequence[str]) -> str:
    """What a command's help ends with; each example begins with the command's own name."""
    name = f"python {prog}" if prog.endswith(".py") else prog
    title = "example:" if len(examples) == 1 else "examples:"
    return "\n".join([title, *(f"  {name} {one}" for one in examples)])
