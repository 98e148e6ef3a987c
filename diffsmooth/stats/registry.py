"""Words and what they stand for: one table for each kind of thing, and no word falls through."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

T = TypeVar("T")


def names_code(word: str) -> bool:
    """Whether a word is of the form package.module:name."""
    return re.fullmatch(r"[^\W\d][\w.]*:\w+", word) is not None


def is_code(word: str) -> bool:
    """Whether a word that a user gave is package.module:name: a file of that name goes first."""
    return names_code(word) and not os.path.exists(word)


def import_from_here() -> None:
    """Lets code of the current folder be imported, as `python -m` does; console scripts do not."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def imported(word: str) -> Any:
    """What `package.module:name` stands for.

    Raises:
        UserError: there is no such module, or no such name in it.
    """
    module, _, name = word.partition(":")
    import_from_here()
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        absent = error.name or module
        if not f"{module}.".startswith(f"{absent}."):
            raise  # of a module that theirs wants
        raise UserError(
            f"{quoted(word)}: there is no module {module}, neither in the current folder nor "
            "where Python looks (PYTHONPATH)"
        ) from error
    except AttributeError as error:
        if hasattr(sys.modules.get(module), name) or module not in sys.modules:
            raise
        raise UserError(f"{quoted(word)}: {module} has no {name}") from error


def check_call(word: str, factory: Any, what: str, *arguments: object, **options: object) -> None:
    """Checks that another package's factory can be called so, before it is.

    Args:
        what: how it is called, and what it gives; said in the error.

    Raises:
        UserError: it cannot be.
    """
    if not callable(factory):
        raise UserError(f"{word}: must be a function, {what}; got {quoted(factory)}")
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except ValueError:  # of a function in C
        return
    except TypeError as error:
        raise UserError(f"{word}: must be a function, {what}; this one: {error}") from error


def can_call(factory: Callable[..., Any], *arguments: object) -> bool:
    """Whether a factory takes such arguments; taken to be so of one in C, which does not tell."""
    try:
        inspect.signature(factory).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def values_wanted(factory: Callable[..., Any]) -> int:
    """How many arguments without a default a factory takes by their place; 0 of one in C."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return 0
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is p.empty and p.kind in by_place for p in parameters)


def resolved(thing: Any) -> Any:
    """A thing, or what its `package.module:name` stands for."""
    return imported(thing) if isinstance(thing, str) else thing


class Registry(Generic[T]):
    """A table from words to things of one kind, open to other packages.

    A thing of another package is added by `add`, or named as `package.module:name`, which is
    imported: that is its author's code, and runs as such.

    Args:
        kind: what the things are, for errors, such as "purifier".
        **things: the things, by their words.
    """

    def __init__(self, kind: str, **things: T) -> None:
        self.kind = kind
        self._things = dict(things)

    def add(self, word: str, thing: T) -> T:
        """Adds one, and gives it back.

        Raises:
            ValueError: the word is taken, or is no identifier.
        """
        if word in self._things or not word.isidentifier():
            raise ValueError(f"{self.kind} {word!r}: taken, or no identifier")
        self._things[word] = thing
        return thing

    def __getitem__(self, word: str) -> T:
        """The thing that a word stands for.

        Raises:
            UserError: nobody knows the word.
        """
        if word in self._things:
            return self._things[word]
        if not names_code(word):
            known = " or ".join([*self, "PACKAGE.MODULE:NAME"])
            raise UserError(f"{self.kind} must be {known}, got {quoted(word)}")
        try:
            return imported(word)
        except UserError as error:
            raise UserError(f"{self.kind} {error}") from error

    def __contains__(self, word: object) -> bool:
        return word in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)
