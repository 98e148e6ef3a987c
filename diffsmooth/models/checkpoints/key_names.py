"""The names of weights without what wrappers of modules put into them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

# torch.compile, DataParallel and DistributedDataParallel, FSDP, activation checkpointing.
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Each name, and what it is without wrappers, wherever in the network they sit.

    A level is a wrapper's if it is called so and nothing lies beside it: wrappers have no weights
    of their own. A network that has such a level itself loses it, too, which a comparison of names
    that are both unwrapped does not notice.
    """
    names = list(names)
    beside: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for outer, level in _levels(name):
            beside[outer].add(level)
    return {
        name: ".".join(
            level
            for outer, level in _levels(name)
            if level not in WRAPPERS or len(beside[outer]) > 1 or name == outer + level
        )
        for name in names
    }


def _levels(name: str) -> list[tuple[str, str]]:
    """The levels of a name, each behind what is before it: ("", a), ("a.", b) of a.b."""
    pairs, start = [], 0
    for level in name.split("."):
        pairs.append((name[:start], level))
        start += len(level) + 1
    return pairs


def without_wrappers(weights: Mapping[str, T]) -> dict[str, T]:
    """The weights under their unwrapped names."""
    names = unwrapped(weights)
    return {names[name]: value for name, value in weights.items()}


def without_prefix(weights: Mapping[str, T]) -> dict[str, T]:
    """The weights without the levels that are all names' first, such as model. or net."""
    weights = dict(weights)
    while weights:
        first = {name.partition(".")[0] for name in weights}
        if len(first) > 1 or any("." not in name for name in weights):
            break
        weights = {name.partition(".")[2]: value for name, value in weights.items()}
    return weights


def unprefixed(plain: Mapping[str, str]) -> dict[str, str]:
    """Each name, and what it is without the levels that are all plain names' first."""
    bare = without_prefix({name: name for name in plain.values()})
    names = {name: short for short, name in bare.items()}
    return {name: names[value] for name, value in plain.items()}


def by_first_level(weights: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """The weights of each first level, under what is left of their names."""
    groups: dict[str, dict[str, T]] = defaultdict(dict)
    for name, value in weights.items():
        first, _, rest = name.partition(".")
        groups[first][rest] = value
    return dict(groups)
