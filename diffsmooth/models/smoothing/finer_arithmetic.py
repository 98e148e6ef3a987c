"""A part of f once more, with so little rounding that what still differs is no rounding."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffsmooth.models.smoothing.fused import FusedConv
from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
from diffsmooth.models.smoothing.precision import autocast, current_numerics, numerics_of
from diffsmooth.models.smoothing.probe_batch import Rows, arrangements, difference_of_rows
from diffsmooth.stats.errors import UserError

# What rounding may leave of a difference, relative to the largest number: thousands of times what
# deep networks were seen to leave, and far below what moves votes.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

# Parameters of a part: up to FEW all rows are tried again, beyond it FEW_ROWS, those that differ
# most; beyond MANY in float32, whose copy takes half the memory.
FEW, MANY, FEW_ROWS = 10_000_000, 100_000_000, 8


class Finding(NamedTuple):
    """What is left of a difference.

    Attributes:
        difference: the largest, relative to the largest number.
        what: it depends on, in words.
        number_format: the coarsest that was computed in.
        all_rows: whether all rows of the batch were tried.
    """

    difference: float
    what: str
    number_format: torch.dtype
    all_rows: bool

    @property
    def is_rounding(self) -> bool:
        return self.difference <= TOLERANCE[self.number_format]


def try_again(
    name: str,
    part: nn.Module,
    call: Callable[[nn.Module, Rows], Sequence[Tensor]],
    rows: Rows,
    strangers: Rows,
    difference: Tensor,
) -> Finding:
    """How far a row's output depends on its place and on the other rows in finer arithmetic.

    On one thread of a CPU, in contiguous memory, without autocast or TF32; in float64, or in
    float32 where the part is large or does not take float64. Its weights keep their values.

    Args:
        name: the part's, in words.
        part: is copied.
        call: the copy, and rows in the number format of its weights, to its outputs (B, ...).
        rows, strangers: as many as in the batch that showed a difference.
        difference: (B,), how far each row's output differed there.

    Raises:
        UserError: the part does not run so: it cannot be told whether it is rounding.
    """
    size = sum(parameter.numel() for parameter in part.parameters())
    total = len(difference)
    count = total if size <= FEW else min(total, FEW_ROWS)
    worst_first = difference.argsort(descending=True)[:count]
    rows, strangers = rows.take(worst_first), strangers.take(torch.arange(count))
    formats = (torch.float64, torch.float32) if size <= MANY else (torch.float32,)
    for number_format in formats:
        try:
            copied = _copy(part, number_format)
            arguments = rows.to(number_format), strangers.to(number_format)
            with _little_rounding(rows.noisy.device), Coarsest() as coarsest:
                found = list(_measure(copied, call, *arguments))
            if coarsest.number_format not in TOLERANCE:
                raise RuntimeError(f"it computes in {coarsest.number_format}, whatever it is given")
            worst = max(gap for gap, _ in found)
            what = next(what for gap, what in found if gap >= worst / 1000)
            return Finding(worst, what, coarsest.number_format, count == total)
        except (RuntimeError, TypeError) as error:
            problem = error
    raise UserError(
        f"f is not seen to be one function of each image: what the {name} makes of one depends on "
        f"the batch that it is in (by up to {float(difference.max()):.1e}), and it cannot be tried "
        f"again in {formats[-1]} whether that is rounding ({problem})"
    ) from problem


def _measure(
    part: nn.Module,
    call: Callable[[nn.Module, Rows], Sequence[Tensor]],
    rows: Rows,
    strangers: Rows,
) -> Iterator[tuple[float, str]]:
    """The largest difference in each arrangement, and what that changes."""
    expected, both = call(part, rows), rows.beside(strangers)
    for arrangement in arrangements(len(rows.noisy)):
        for one, other in arrangement.pairs(partial(call, part), expected, both):
            yield float(difference_of_rows(one, other).max()), arrangement.what


def _copy(part: nn.Module, number_format: torch.dtype) -> nn.Module:
    """Not compiled, whether or not the part is."""
    copied = copy.deepcopy(part).to(number_format).to(memory_format=torch.contiguous_format)
    for module in copied.modules():
        if isinstance(module, FusedConv):
            module.onednn = False  # it takes no float64
        if isinstance(module, LocalSmoothing):
            module.layout = torch.contiguous_format
    return copied


@contextmanager
def _little_rounding(device: torch.device) -> Iterator[None]:
    threads = torch.get_num_threads()
    exact = current_numerics()._replace(tf32_convolutions=False, tf32_products=False)
    torch.set_num_threads(1)
    try:
        with numerics_of(exact), autocast("float32", device.type):
            yield
    finally:
        torch.set_num_threads(threads)


class Coarsest(TorchDispatchMode):
    """Notes the coarsest floating-point format among the results of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.number_format = torch.float64

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if not isinstance(result, Tensor) or not result.is_floating_point():
                continue
            # A single number, such as a timestep, is exact in any format.
            if result.numel() > 1:
                formats = (self.number_format, result.dtype)
                self.number_format = max(formats, key=lambda dtype: torch.finfo(dtype).eps)
        return results
