"""What in a checkpoint file is a network's weights, and whether a network can compute with them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmooth.models.checkpoints.key_names import without_prefix, without_wrappers
from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError

AVERAGES = frozenset(("ema", "avg", "average", "averaged", "swa", "shadow", "polyak"))
# An optimizer's state may have the weights' names and shapes: Adam's exp_avg has both.
STATES = frozenset(("opt", "optim", "optimizer", "optimizers", "exp", "momentum", "grad", "grads"))
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of model_ema, modelEMA, emaModel
LONGEST_NAME = 1000
DEEPEST = 6  # levels above a network
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.bool)
LARGEST = torch.finfo(torch.float32).max


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


def has_tensors(value: Any) -> bool:
    """Whether a value holds tensors, at its first level or the next."""
    for _ in range(2):
        values = value.values() if isinstance(value, dict) else value
        if not isinstance(values, list | tuple | type({}.values())):
            return False
        if any(isinstance(v, Tensor) for v in values):
            return True
        value = next((v for v in values if isinstance(v, dict | list | tuple)), ())
    return False


def are_alike(other: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Whether some weights could stand for others: many of their names have the same shapes."""
    ours = shapes(weights)
    shared = shapes(other).items() & ours.items()
    return len(shared) > max(2, len(ours) // 3)  # an average may have the parameters only


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each weight, by its name without wrappers and common prefix."""
    plain = without_prefix(without_wrappers(weights))
    return {name: tuple(value.shape) for name, value in plain.items()}


def check_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises UserError, which names it, for a weight that no network can compute with.

    That is a tensor that is none of numbers in memory (sparse, quantised, meta, complex), claims
    more memory than it has, or holds what is not finite in float32; and a negative variance.
    """
    for name, value in weights.items():
        problem = _form(value)
        if problem:
            raise UserError(f"{path}: {word(name)} is {problem}, a plain tensor is wanted")
    for what, is_bad in (("not finite", _overflows), ("a negative variance", _is_negative)):
        bad = [name for name, value in weights.items() if is_bad(name, value)]
        if bad:
            more = f" (first of {len(bad)})" if len(bad) > 1 else ""
            raise UserError(f"{path}: a weight that is {what}: {word(bad[0])}{more}")


def _form(value: Tensor) -> str:
    """What a tensor is, in words, if it is no plain one; else ""."""
    if type(value) not in (Tensor, torch.nn.Parameter):
        return f"a {type(value).__name__}"
    if value.is_quantized:
        return "quantised"
    if value.layout != torch.strided or value.is_nested:
        return "sparse" if "sparse" in str(value.layout) else "nested"
    if value.device.type != "cpu":
        return f"without numbers (of device {value.device.type})"
    if value.dtype not in FLOATS + WHOLE:
        return f"of {str(value.dtype).removeprefix('torch.')}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"expanded to {value.numel():,} numbers from fewer"
    return ""


def _overflows(_: str, value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return False
    low, high = (float(bound) for bound in torch.aminmax(value))  # NaN if there is one
    return not -LARGEST <= low <= high <= LARGEST


def _is_negative(name: str, value: Tensor) -> bool:
    return name.endswith("running_var") and bool((value < 0).any())
