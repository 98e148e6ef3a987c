"""Networks within a function that a user gives instead of a module."""

import functools
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from diffsmooth.stats.errors import UserError


def check_called(function: Any, what: str) -> None:
    """Raises UserError for a function that calls a network which is in train mode.

    It is its owner's: it is not copied, and its batch norms would take in the noise of the checks.

    Args:
        function: what is called; a module is left to whoever copies it.
        what: how errors call it.
    """
    for module in () if isinstance(function, nn.Module) else _modules_of(function):
        if any(part.training for part in module.modules()):
            raise UserError(
                f"{what}: the function calls a {type(module).__name__} that is in train mode: "
                "call its .eval() first, or give the module itself, which is copied"
            )


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """The modules that a function is seen to hold, and the functions of its own file that it calls.

    Also of a bound method, a partial, or an object that can be called.
    """
    waiting, seen = [function], set()
    home = getattr(function, "__module__", None)
    while waiting:
        one = waiting.pop()
        if isinstance(one, nn.Module):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            if one is function or getattr(one, "__module__", None) == home:
                waiting += _held_by(one)


def _held_by(function: Any) -> list[Any]:
    """What a function's code can reach by a name of its own."""
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, MethodType):
        return [function.__self__, function.__func__]
    if not isinstance(function, FunctionType):
        call = getattr(type(function), "__call__", None)  # noqa: B004  # what runs, if it does
        return [*vars(function).values(), call] if hasattr(function, "__dict__") else []
    cells = [cell for cell in function.__closure__ or () if _is_filled(cell)]
    names = function.__globals__
    return [
        *(cell.cell_contents for cell in cells),
        *(names[name] for name in function.__code__.co_names if name in names),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
    ]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a name that has no value yet
        return False
