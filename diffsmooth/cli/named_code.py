"""Which code a config may name: classes of known packages; the command line's own words go further.

A config is a file that one is given, and to import a module is to run it. So the names in it are
looked at before any is imported. What a person types is not asked about.

A class stands where one of its kind is wanted. A factory, `package.module:name`, is any function,
and is called with what the config says: among those of the known packages are some that run what
files hold. So a config names none of theirs of its own accord.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jsonargparse import set_parsing_settings

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import is_code, names_code

KNOWN = ("diffsmooth", "torch", "torchvision", "lightning", "torchmetrics", "timm")
OPTION = "allow_imports"
HELP = (
    "packages, as NAME[,NAME], of whose code a config may name classes and factories, beside the "
    f"classes of {', '.join(KNOWN)}: to import them is to run them"
)
NEVER = "jsonargparse"  # it could change what it allows, and refuses to be allowed
# What a config may say of what lets other files' code run; else it is for the command line to say.
SAFE = {OPTION: (None,), "unsafe_load": (None, False), "weights_only": (None, True)}
# The first part of each a.b or a.b:c in a text, between what YAML sets apart.
NAMES = re.compile(r"""(?<![^\s[\]{},'"])([^\W\d]\w*)(?:\.\w+)*[.:]\w+(?![^\s[\]{},'"])""")
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class CommandLine:
    """What was typed.

    Attributes:
        packages: of which configs may name classes: known, allowed, or named by the words.
        of_factories: of which they may name factories, too: not the known ones, unless allowed.
        words: of the command line, but for --allow_imports.
        configs: the files that it names.
        command: what messages begin with.
    """

    packages: tuple[str, ...] = KNOWN
    of_factories: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    command: str = ""


command_line: ContextVar[CommandLine] = ContextVar(
    "command_line",
    default=CommandLine(),  # noqa: B039  frozen
)


def read_allowed(words: Sequence[str], command: str, config_options: Sequence[str]) -> list[str]:
    """Keeps what is typed for the texts that are read later; the words without --allow_imports.

    Args:
        words: the command line.
        command: what messages begin with.
        config_options: those whose values are configs; of a command without, nothing is taken.

    Raises:
        UserError: a name in --allow_imports that is no package's.
    """
    kept, configs, allowed = list[str](), list[str](), list[str]()
    said = iter(words)
    for word in said:
        option, equals, value = word.partition("=")
        if not config_options or option.replace("-", "_") != f"__{OPTION}":
            kept.append(word)
            continue
        allowed += (value if equals else next(said, "")).split(",")
    for name in allowed:
        if not DOTTED.fullmatch(name) or _package(name) == NEVER:
            raise UserError(f"--{OPTION} must be NAME[,NAME] of packages, got {quoted(name)}")
    for before, word in pairwise(["", *kept]):
        option, equals, value = word.partition("=")
        if equals and option in config_options:
            configs.append(value)
        elif before in config_options:
            configs.append(word)
    typed = sorted(_typed_packages(kept, configs) - {*KNOWN})
    packages, of_factories = (*KNOWN, *allowed, *typed), (*allowed, *typed)
    command_line.set(CommandLine(packages, of_factories, tuple(kept), tuple(configs), command))
    return kept


def refusal(text: str, tree: Any) -> str:
    """What is wrong with the code that a YAML text names, "" if nothing: the first name of others.

    Args:
        text: a file's, or a part of one; what was typed may name anything.
        tree: what it holds.
    """
    typed = command_line.get()
    if any(text in word for word in typed.words):
        return ""
    for key, value in _leaves(tree):
        name = key.rpartition(".")[2]
        if value not in SAFE.get(name, (value,)):
            return f"{_files()}{name} is for the command line, not for a config"
        if not isinstance(value, str):
            continue
        if names_code(value):
            if not _is_of(value.partition(":")[0], typed.of_factories):
                return not_allowed(value)
        elif name == "class_path" and "." in value and not _is_of(value, typed.packages):
            return not_allowed(value)
    return ""


def not_allowed(name: str) -> str:
    """That a config names code which it may not name."""
    may = "no factory" if names_code(name) else f"classes of {', '.join(KNOWN)} only"
    return (
        f"{_files()}names {quoted(name)}, but a config may name {may}: "
        f"--{OPTION} {_package(name)} takes it, which runs that package's code"
    )


@contextmanager
def imports_allowed() -> Iterator[None]:
    """Within it jsonargparse imports code of the packages that a config may name, and no other.

    It knows where a class or function is meant; a text alone may as well be a file's name.
    """
    allowed = command_line.get().packages
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*allowed])
    try:
        yield
    finally:
        set_parsing_settings(import_path_denylist=[one for one in allowed if one not in KNOWN])


def _typed_packages(words: Sequence[str], configs: Sequence[str]) -> set[str]:
    """The packages of what may be code among the words, neither a config nor any other file."""
    found = set[str]()
    for word in words:
        option, equals, value = word.partition("=")
        text = value if equals and option.startswith("-") else word
        if text in configs or os.path.exists(text):
            continue
        found |= set(NAMES.findall(text))
    return found - {NEVER}


def options_that_allow(names: Iterable[str | None]) -> list[str]:
    """The words with which a config may name code: those of these names that are code of others."""
    packages = {_package(name) for name in names if name and is_code(name)}
    return [f"--{OPTION}", ",".join(sorted(packages))] if packages else []


def _package(name: str) -> str:
    """Of `package.module.Class` or `package.module:factory`, the package."""
    return re.split("[.:]", name)[0]


def _is_of(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{one}.") for one in packages)


def _files() -> str:
    configs = command_line.get().configs
    return f"{', '.join(configs)}: " if configs else ""


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a tree that is neither a mapping nor a list, with its nearest key."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, key)
    else:
        yield key, tree
