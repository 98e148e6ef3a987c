"""From a record's declared options to those of a command's parser, and back to a record."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.help_layout import (
    ANOTHER_FORM,
    GROUPS,
    HelpLayout,
    example_text,
    plain_value,
    short_usage,
)
from diffsmooth.cli.named_code import HELP, OPTION
from diffsmooth.pipeline.option_records import Option, OptionRecord, options_of
from diffsmooth.pipeline.specification import PurifierOptions

CONFIG = "YAML file with any of the options, the arguments above by their names among them"
Record = TypeVar("Record", bound=OptionRecord)


def read_options(
    record: type[Record],
    args: list[str] | None,
    prog: str,
    description: str | None,
    with_config: bool = False,
    examples: Sequence[str] = (),
    preset: Mapping[str, Any] = {},
    **set_here: Any,
) -> Record:
    """A command's options, checked; a mistake ends it with one line.

    Args:
        record: declares them.
        args: the command's words; None takes the process's.
        prog, description: what its help begins with.
        with_config: see `add_options`.
        examples: of its words, for the help.
        preset: the command's own defaults, of whatever the record declares; what is given so is
            an option, also where the record has it by its place.
        set_here: values of options that the command sets itself.
    """
    parser = OneLineParser(
        prog=prog,
        description=description,
        epilog=example_text(prog, examples),
        formatter_class=HelpLayout,
    )
    add_options(parser, record, set_here, with_config, preset)
    parser.usage = short_usage(parser)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = record.from_namespace(namespace, **set_here).check_inputs()
    return options


def add_options(
    parser: ArgumentParser,
    record: type[OptionRecord],
    leave_out: Collection[str] = (),
    with_config: bool = False,
    preset: Mapping[str, Any] = {},
) -> None:
    """Adds the options of a record.

    Args:
        parser: to add them to.
        record: declares them.
        leave_out: fields that are no options of this command.
        with_config: whether --config reads them from a file, too; what is required by its place
            then may be given as an option, and both forms share one value.
        preset: see `read_options`.
    """
    given = {
        one.name: _preset(one, preset[one.name]) if one.name in preset else one
        for one in options_of(record)
        if one.name not in leave_out
    }
    for one in (given[each.name] for each in fields(record) if each.name in given):
        if one.default is MISSING and not one.spellings:
            _add_by_place(parser, one, with_config)
            del given[one.name]
    if with_config:
        by_place = any(not action.option_strings for action in parser._actions)
        text = CONFIG if by_place else CONFIG.partition(",")[0]
        parser.add_argument("--config", action="config", help=text)
        parser.add_argument(f"--{OPTION}", type=str | None, default=None, help=HELP)
    # What is a command's own comes first; what it shares with others, in their groups.
    own = () if issubclass(record, PurifierOptions) else vars(record)["__annotations__"]
    shared = [name for name in given if name not in own]
    for name in given:
        if name not in shared or not any(name in names for names in GROUPS.values()):
            _add_by_name(parser, given[name])
    for title, names in GROUPS.items():
        if members := [name for name in names if name in shared]:
            group = parser.add_argument_group(title)
            for name in members:
                _add_by_name(group, given[name])


def _preset(one: Option, value: Any) -> Option:
    """An option with a default of the command's own, which its text says, too."""
    text = re.sub(r" \(default: [^)]*\)", "", one.text)
    more = f"; here {plain_value(value)}" if "default" in text else ""
    return one._replace(text=text + more, default=value)


def _add_by_place(parser: ArgumentParser, one: Option, named_too: bool) -> None:
    several: dict[str, Any] = {"nargs": one.nargs} if one.several else {}
    parser.add_argument(one.name, type=_type(one), help=one.text, **several)
    if named_too:
        parser.add_argument(f"--{one.name}", type=_type(one), help=ANOTHER_FORM)


def _add_by_name(parser: Any, one: Option) -> None:
    spellings = one.spellings or (f"--{one.name}",)
    more: dict[str, Any] = {"default": one.default, "help": one.text}
    if one.default is MISSING:
        more |= {"required": True, "default": None}
    if one.kind is bool:
        more["action"] = ActionYesNo
    else:
        more["type"] = _type(one)
    if one.several:
        more["nargs"] = one.nargs
    elif bool in getattr(one.kind, "__args__", ()):
        more |= {"nargs": "?", "const": True}  # a word, or the option alone
    parser.add_argument(*spellings, dest=one.name, **more)


def _type(one: Option) -> Any:
    """For the parser. Words are texts to it: the record knows them, and says them if need be."""
    kind = str if one.words else one.kind
    return kind | None if one.nullable and not one.several else kind
