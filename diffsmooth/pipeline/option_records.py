"""Records whose fields are a command's options: each is declared once, and checked when it is made.

A field says its default, what it means, how else it may be spelled and which values it can have;
`cli/options.py` makes the parser's options of it. No torch: options are read at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from diffsmooth.pipeline.option_checks import MOST, SPELLED
from diffsmooth.shipped import located
from diffsmooth.stats.errors import UserError


class Option(NamedTuple):
    """An option, as its field declares it.

    Attributes:
        text: its meaning.
        spellings: such as "--n" and "--N", where they are not "--" and the field's name.
        least: smallest value, or None.
        check: raises UserError for an option, by its name, that has an impossible value.
        nargs: the number of values, where there are several.
        shipped: whether pkg:NAME means a file that we ship.
        name: the field's.
        kind: type of a value, of each where there are several; without None.
        nullable: whether it may be None.
        several: whether there are several values.
        default: its own; MISSING where it is required.
    """

    text: str
    spellings: tuple[str, ...] = ()
    least: int | None = None
    check: Callable[[str, Any], None] | None = None
    nargs: str = "+"
    shipped: bool = False
    name: str = ""
    kind: Any = None
    nullable: bool = False
    several: bool = False
    default: Any = MISSING

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it may be; empty where it is no choice of words."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()


def option(default: Any, text: str, *spellings: str, **more: Any) -> Any:
    """A field with a default, of a record of options; see `Option` for the rest."""
    declared = {"option": Option(text, spellings, **more)}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=declared)
    return field(default=default, metadata=declared)


def required(text: str, *spellings: str, **more: Any) -> Any:
    """A field without a default: an argument by its place, or an option where it has spellings."""
    return field(metadata={"option": Option(text, spellings, **more)})


@dataclass(frozen=True, kw_only=True)
class OptionRecord:
    """A command's options, checked for their ranges."""

    def __post_init__(self) -> None:
        for one in options_of(type(self)):
            value = getattr(self, one.name)
            for single in value if one.several and value is not None else [value]:
                if single is not None:
                    _check(one, single)

    @classmethod
    def from_namespace(cls, namespace: Any, **others: Any) -> Self:
        """The options among the parser's values, and those that the command sets itself."""
        given = {f.name: getattr(namespace, f.name) for f in fields(cls) if f.name not in others}
        for one in options_of(cls):
            value = given.get(one.name)
            if one.shipped and value is not None:
                given[one.name] = list(map(located, value)) if one.several else located(value)
        return cls(**given, **others)

    def check_inputs(self) -> Self:
        """These options, whose files are there or can be written.

        Raises:
            UserError: one is missing or cannot be written.
        """
        return self


def _check(one: Option, value: Any) -> None:
    if one.words and value not in one.words:
        words = f"{', '.join(one.words[:-1])} or {one.words[-1]}"
        raise UserError(f"{one.name} must be {words}, got {value!r}")
    shown = SPELLED.get(one.name, one.name)
    if not isinstance(value, str):  # a word that stands for a number has no range
        if one.least is not None and value < one.least:
            raise UserError(f"{shown} must be at least {one.least}, got {value}")
        if one.name in MOST and value > MOST[one.name]:
            raise UserError(f"{shown} must be at most {MOST[one.name]}, got {value}")
    if one.check is not None:
        one.check(one.name, value)


def options_of(record: type[OptionRecord]) -> Iterator[Option]:
    """The options of a record, its own before those of its bases."""
    hints, declared, names = get_type_hints(record), dict[str, Option](), list[str]()
    for base in reversed(record.__mro__):
        if issubclass(base, OptionRecord):
            # A field that is given but another default keeps what was declared.
            declared |= {f.name: f.metadata["option"] for f in fields(base) if f.metadata}
            names = [f.name for f in fields(base) if f.name not in names] + names
    by_name = {one.name: one for one in fields(record)}
    for name in names:
        kind, own = hints[name], by_name[name]
        parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        first, *rest = (part for part in parts if part is not NoneType)
        several = get_origin(first) is list
        yield declared[name]._replace(
            name=name,
            kind=get_args(first)[0] if several else kind if rest else first,
            nullable=NoneType in parts,
            several=several,
            default=own.default if own.default_factory is MISSING else own.default_factory(),
        )
