"""User mistakes: one clear line, exit code 2, no traceback. A bug keeps its traceback."""

import atexit
import errno
import mmap
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from diffsmooth.cli.named_code import command_line, read_allowed, refusal
from diffsmooth.lit.stopping import USER_ERROR, wait_to_speak
from diffsmooth.pipeline.output_checks import exists
from diffsmooth.shipped import located
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import UserError

RESERVE: list[mmap.mmap] = []
"""64 MiB of address space, and no memory."""
with suppress(OSError):
    RESERVE.append(mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
MOST_LEVELS = 50  # of a config
FOR_FIGURES = 3 * 2**24  # bytes of address space, of the reserve's 64 MiB


def give_back_reserve() -> None:
    """What is imported from here to the end of the process finds room."""
    for one in RESERVE:
        one.close()


def has_room(size: int = 2**24) -> bool:
    """Whether there is address space for what any command does next, by default 16 MiB."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ).close()
    except OSError:
        return False
    return True


def make_room() -> None:
    """Before a run's figures and events, which libraries write in threads of their own.

    A thread that memory fails as an exception unwinds may turn for ever (CPython 3.11 does, where
    it has no room for a line's number), and the process would wait for it.

    Raises:
        MemoryError: there is not enough even with the reserve.
    """
    give_back_reserve()
    if not has_room(FOR_FIGURES):
        raise MemoryError("no room for figures and events")


def _end_at_once() -> None:
    """Leaves out what libraries do at the end of a process: it fails without memory."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(USER_ERROR)


def show_error(command: str, message: str) -> None:
    """Prints one line."""
    print(f"{command}: error: {shown(' '.join(message.split()))}", file=sys.stderr)


def fail(command: str, message: str, code: int = USER_ERROR) -> NoReturn:
    """Prints one line and exits with code 2; of many ranks that fail alike, one prints it."""
    wait_to_speak()
    show_error(command, message)
    raise SystemExit(code)


def file_problem(error: OSError) -> str:
    """What is wrong with the file that an OSError names; "" if it names none."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return ""  # of a socket, a process, a number of an open file
    return f"{os.fsdecode(error.filename)}: {error.strerror or error}"


@contextmanager
def user_errors(command: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns a UserError, or trouble with a file, into one line and exit code 2.

    Args:
        command: as it is said before the line.
        kinds: exceptions of others that tell of the user's mistakes, too.
    """
    try:
        yield
    except Exception as error:
        # Where there is none, libraries fail in ways of their own.
        full = not has_room()
        if full:
            atexit.register(_end_at_once)  # the last to come is the first to go
        give_back_reserve()
        if isinstance(error, (UserError, *kinds)):
            fail(command, str(error))
        full = full or getattr(error, "errno", None) == errno.ENOMEM
        if full or isinstance(error, RuntimeError | MemoryError | ImportError):
            from diffsmooth.models.smoothing.memory import (  # torch takes seconds
                in_short,
                is_out_of_memory,
            )

            if full or is_out_of_memory(error):
                fail(command, f"out of memory: a smaller --batch may help ({in_short(error)})")
        if isinstance(error, OSError) and file_problem(error):
            fail(command, file_problem(error))
        raise


# What jsonargparse says where a value is of none of an option's types, one paragraph a type.
NO_UNION_MEMBER = re.compile(
    r'Parser key "(?P<option>\w+)":\s+Does not validate against any of the Union subtypes.*'
    r"Given value: (?P<value>.*)",
    re.DOTALL,
)


def load_tree(text: str) -> Any:
    """What a YAML text holds; one that names code which it may not name ends the command.

    Raises:
        YAMLError: it is none; it repeats parts by aliases, which can make it endless; or it is
            nested so deeply that reading it would take hours.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*) in YAML, which a config has no use for")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise yaml.YAMLError(f"more than {MOST_LEVELS} levels in YAML")
    _refuse_repeated(yaml.compose(text, yaml.SafeLoader))
    tree = yaml_load(text)
    said = refusal(text, tree)
    if said:  # no exception: jsonargparse goes on after some, with the text for a name
        fail(command_line.get().command, said)
    return tree


def _refuse_repeated(node: yaml.Node | None) -> None:
    """Raises YAMLError where a mapping has a key twice: YAML's reader takes the last one."""
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.YAMLError(f"{key!r} is said {count} times")
        for _, value in node.value:
            _refuse_repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated(value)


yaml_load = get_loader("yaml")  # jsonargparse's
set_loader("yaml", load_tree, (yaml.YAMLError,))


# And where one is not of an option's only type.
NOT_OF_TYPE = re.compile(
    r'Parser key "(?P<option>\w+)"(?P<element> element \d+)?:\s+'
    r"Expected a <class '(?P<type>float|int)'>\. Got value: (?P<value>.*)",
    re.DOTALL,
)
NUMBERS = {"float": "a number", "int": "a whole number"}


class OneLineErrors(ArgumentParser):
    """Mixed into a parser, makes its errors one line."""

    command = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        found = NO_UNION_MEMBER.fullmatch(message)
        if found:
            message = f"{found['option']} cannot be {found['value'].strip()!r}"
        found = NOT_OF_TYPE.fullmatch(message)
        if found:
            name, wanted = found["option"], NUMBERS[found["type"]]
            message = f"{name}{found['element'] or ''} must be {wanted}, got {found['value']!r}"
            by_place = [action.dest for action in self._actions if not action.option_strings]
            if name in by_place:
                message += f"; the order is {' '.join(by_place)}"
        fail(self.command or self.prog, f"{message} (--help explains the options)")


class OneLineParser(OneLineErrors):
    """A parser in whose options dashes and underscores mean the same."""

    _configs: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if re.match("(Problems parsing|Unexpected) config", message):
            message = f"{', '.join(self._configs)}: {message}"
        super().error(message, ex)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        words = args[0] if args else kwargs.pop("args", None)
        words = [underscored(word) for word in (sys.argv[1:] if words is None else words)]
        try:
            words = located_values(words, "--config")
            options = ["--config"] if "--config" in self._option_string_actions else []
            words = read_allowed(words, self.command or self.prog, options)
            self._configs = command_line.get().configs
            check_configs(self._configs)
        except UserError as error:
            self.error(str(error))
        try:
            return super().parse_args(words, *args[1:], **kwargs)
        except (ValueError, OSError) as error:  # of a config's name, its bytes, or a number
            self.error(str(error))
        except RecursionError:
            self.error("a value that is nested too deeply")


def check_configs(configs: Iterable[str]) -> None:
    """Raises UserError for a config that is not there, or is a folder."""
    for config in configs:
        if not is_path(config):
            continue
        if not exists(config):
            raise UserError(f"{config}: no such config")
        if Path(config).is_dir():
            raise UserError(f"{config}: a folder, not a config")


def is_path(text: str) -> bool:
    """Whether it can only be meant as a path here: no URL, no null, no YAML text in its place."""
    try:
        return "://" not in text and isinstance(yaml.safe_load(text), str)
    except yaml.YAMLError:
        return False


def located_values(words: Sequence[str], *options: str) -> list[str]:
    """The words, but where an option's value is pkg:NAME the path of that shipped file.

    Raises:
        UserError: no such file is shipped.
    """
    located_words = []
    for before, word in pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if before in options:
            word = located(word)
        elif equals and option in options:
            word = f"{option}={located(value)}"
        located_words.append(word)
    return located_words


def underscored(word: str) -> str:
    """`--local-noise-sd=0.25` to `--local_noise_sd=0.25`; other words as they are."""
    if not word.startswith("--") or word == "--":
        return word
    option, equals, value = word.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value
