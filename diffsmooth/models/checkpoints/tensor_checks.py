"""Weights as they come from a file: finite numbers in plain tensors, or refused by their names."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffsmooth.shown_text import word
from diffsmooth.stats.errors import UserError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.bool)
LARGEST = torch.finfo(torch.float32).max


def check_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Checks that weights are what a network can compute with.

    Raises:
        UserError: a tensor that is none of numbers in memory (sparse, quantised, meta, complex),
            that claims more memory than it has, or that holds what is not finite in float32; a
            negative variance. It is named.
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
