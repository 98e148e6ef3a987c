"""The names of a classifier's classes, as people keep them beside its weights."""

import operator
from collections.abc import Mapping
from typing import Any

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

LISTS = ("class_names", "classes")  # in the order of the labels
NUMBERS = ("class_to_idx", "label2id")  # from name to label, as torchvision's and transformers'
NAMES = ("idx_to_class", "id2label")  # from label to name
MOST_DIGITS = 9  # of a label


def told_classes(content: Mapping[str, Any]) -> list[str]:
    """The names in the order of the labels; empty where nothing says them.

    Args:
        content: of a file, weights and what lies beside them; or the attributes of a module.

    Raises:
        UserError: a mapping that does not name each label from 0 on once, or two that differ.
    """
    found: dict[str, list[str]] = {}
    for key in LISTS:
        value = content.get(key)
        if isinstance(value, list | tuple) and value and all(isinstance(n, str) for n in value):
            found[key] = list(value)
    for key in (*NUMBERS, *NAMES):
        value = content.get(key)
        if isinstance(value, dict) and value:
            pairs = [(n, v) if key in NUMBERS else (v, n) for n, v in value.items()]
            found[key] = _ordered(key, pairs)
    first = next(iter(found), "")
    for key, names in found.items():
        if names != found[first]:
            raise UserError(f"its {first} and its {key} are not the same classes")
    return found.get(first, [])


def _ordered(key: str, pairs: list[tuple[Any, Any]]) -> list[str]:
    labels = {}
    for name, label in pairs:
        number = _number(label)
        if not isinstance(name, str) or number is None:
            raise UserError(f"its {key} holds {quoted(name)} and {quoted(label)}: no class")
        labels[number] = name
    if sorted(labels) != list(range(len(pairs))):
        raise UserError(f"its {key} does not give each label from 0 to {len(pairs) - 1} a name")
    return [labels[number] for number in range(len(pairs))]


def _number(label: Any) -> int | None:
    """A label that is a whole number, also one of NumPy's or a tensor, or is written in digits."""
    if isinstance(label, str):
        return int(label) if label.isdecimal() and len(label) <= MOST_DIGITS else None
    try:
        return operator.index(label)
    except (TypeError, RuntimeError):  # of a tensor on no device
        return None
