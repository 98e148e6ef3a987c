"""What in a checkpoint file's content is a network's weights, at whatever depth."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from diffsmooth.models.checkpoints.key_names import without_prefix, without_wrappers

AVERAGES = frozenset(("ema", "avg", "average", "averaged", "swa", "shadow", "polyak"))
# An optimizer's state may have the weights' names and shapes: Adam's exp_avg has both.
STATES = frozenset(("opt", "optim", "optimizer", "optimizers", "exp", "momentum", "grad", "grads"))
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of model_ema, modelEMA, emaModel
LONGEST_NAME = 1000
DEEPEST = 6  # levels above a network


def is_averaged(place: str) -> bool:
    """Whether the name of a set, or the names that lead to it, say so."""
    return bool(_words(place) & AVERAGES) and not is_optimizers(place)


def is_optimizers(place: str) -> bool:
    """Whether the names that lead to tensors say that these are no weights."""
    return bool(_words(place) & STATES)


def _words(place: str) -> set[str]:
    return {word.lower() for word in WORDS.findall(place)}


def is_state_dict(content: Any) -> bool:
    """Whether a file's value is names of tensors."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(
            isinstance(k, str) and len(k) <= LONGEST_NAME and isinstance(v, Tensor)
            for k, v in content.items()
        )
    )


def networks_in(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All state dicts of a file but for an optimizer's: the keys that lead to it, and itself."""
    seen: set[int] = set()  # a small pickle can name one value very often
    waiting = [("", content, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        if is_state_dict(value):
            yield place, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen and depth < DEEPEST:
            seen.add(id(value))
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            for key, below in inner:
                name = str(key)[:LONGEST_NAME]
                if not is_optimizers(name):
                    waiting.append((f"{place}.{name}".lstrip("."), below, depth + 1))


def are_alike(other: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Whether some weights could stand for others: many of their names have the same shapes."""
    ours = shapes(weights)
    shared = shapes(other).items() & ours.items()
    return len(shared) > max(2, len(ours) // 3)  # an average may have the parameters only


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each weight, by its name without wrappers and common prefix."""
    plain = without_prefix(without_wrappers(weights))
    return {name: tuple(value.shape) for name, value in plain.items()}
