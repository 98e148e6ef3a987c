"""User mistakes: one clear line, exit code 2, no traceback."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from diffsmooth.shown_text import shown

USER_ERROR = 2
PACKAGE = Path(__file__).parents[1]


def show_error(command: str, message: str) -> None:
    """Prints one line."""
    print(f"{command}: error: {shown(' '.join(message.split()))}", file=sys.stderr)


def fail(command: str, message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    show_error(command, message)
    raise SystemExit(USER_ERROR)


def root_message(error: BaseException) -> str:
    """What our own code said first of a chain of exceptions; else what the last of them said."""
    while True:
        frames = traceback.extract_tb(error.__traceback__)
        if frames and Path(frames[-1].filename).is_relative_to(PACKAGE):
            return str(error)
        if error.__cause__ is None:
            return str(error)
        error = error.__cause__


@contextmanager
def user_errors(command: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns exceptions of these kinds (ValueError by default) into one line and exit code 2."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RuntimeError | MemoryError):
            from diffsmooth.models.memory import in_short, is_out_of_memory  # torch takes seconds

            if is_out_of_memory(error):
                fail(command, f"out of memory: a smaller --batch may help ({in_short(error)})")
        if not isinstance(error, kinds or (ValueError,)):
            raise
        fail(command, str(error))


# What jsonargparse says where a value is of none of an option's types, one paragraph a type.
NO_UNION_MEMBER = re.compile(
    r'Parser key "(?P<option>\w+)":\s+Does not validate against any of the Union subtypes.*'
    r"Given value: (?P<value>.*)",
    re.DOTALL,
)


class OneLineErrors(ArgumentParser):
    """Mixed into a parser, makes its errors one line."""

    command = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        found = NO_UNION_MEMBER.fullmatch(message)
        if found:
            message = f"{found['option']} cannot be {found['value'].strip()!r}"
        fail(self.command or self.prog, f"{message} (--help explains the options)")


class OneLineParser(OneLineErrors):
    """A parser in whose options dashes and underscores mean the same."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        words = args[0] if args else kwargs.pop("args", None)
        words = sys.argv[1:] if words is None else words
        return super().parse_args([underscored(word) for word in words], *args[1:], **kwargs)


def underscored(word: str) -> str:
    """`--local-noise-sd=0.25` to `--local_noise_sd=0.25`; other words as they are."""
    if not word.startswith("--") or word == "--":
        return word
    option, equals, value = word.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value
