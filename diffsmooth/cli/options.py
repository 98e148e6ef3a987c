"""From a record's declared options to those of a command's parser, and back to a record."""

from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.named_code import HELP, OPTION
from diffsmooth.pipeline.option_records import Option, OptionRecord, options_of

Record = TypeVar("Record", bound=OptionRecord)


def read_options(
    record: type[Record],
    args: list[str] | None,
    prog: str,
    description: str | None,
    with_config: bool = False,
    **set_here: Any,
) -> Record:
    """A command's options, checked; a mistake ends it with one line.

    Args:
        record: declares them.
        args: the command's words; None takes the process's.
        prog, description: what its help begins with.
        with_config: see `add_options`.
        set_here: values of options that the command sets itself.
    """
    parser = OneLineParser(prog=prog, description=description)
    add_options(parser, record, set_here, with_config)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = record.from_namespace(namespace, **set_here).check_inputs()
    return options


def add_options(
    parser: ArgumentParser,
    record: type[OptionRecord],
    leave_out: Collection[str] = (),
    with_config: bool = False,
) -> None:
    """Adds the options of a record.

    Args:
        parser: to add them to.
        record: declares them.
        leave_out: fields that are no options of this command.
        with_config: whether --config reads them from a file, too; what is required by its place
            then may be given as an option, and both forms share one value.
    """
    given = {one.name: one for one in options_of(record) if one.name not in leave_out}
    for one in (given[each.name] for each in fields(record) if each.name in given):
        if one.default is MISSING and not one.spellings:
            _add_by_place(parser, one, with_config)
            del given[one.name]
    if with_config:
        parser.add_argument("--config", action="config", help="YAML file with any of the options")
        parser.add_argument(f"--{OPTION}", type=str | None, default=None, help=HELP)
    for one in given.values():
        _add_by_name(parser, one)


def _add_by_place(parser: ArgumentParser, one: Option, named_too: bool) -> None:
    several: dict[str, Any] = {"nargs": one.nargs} if one.several else {}
    parser.add_argument(one.name, type=_type(one), help=one.text, **several)
    if named_too:
        text = f"the same as the positional {one.name}"
        parser.add_argument(f"--{one.name}", type=_type(one), help=text)


def _add_by_name(parser: ArgumentParser, one: Option) -> None:
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
