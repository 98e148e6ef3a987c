"""Networks within a function that a user gives instead of a module."""

import dis
import functools
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from diffsmooth.stats.errors import UserError

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")


def check_called(function: Any, what: str) -> None:
    """Raises UserError for a function that calls a network whose batch norms are in train mode.

    It is its owner's: it is not copied, and these would take in what the checks show them. What is
    random is found by the checks themselves.

    Args:
        function: what is called; a module is left to whoever copies it.
        what: how errors call it.
    """
    for module in () if isinstance(function, nn.Module) else _modules_of(function):
        if any(isinstance(part, _NormBase) and part.training for part in module.modules()):
            raise UserError(
                f"{what}: the function calls a {type(module).__name__} that is in train mode: "
                "call its .eval() first, or give the module itself, which is copied"
            )


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """The modules that a function is seen to hold, and the functions of its own file that it calls.

    Also of a bound method, a partial, or an object that can be called.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    home = getattr(inner, "__module__", None)
    waiting, seen = [function], {}
    while waiting:
        one = waiting.pop()
        if isinstance(one, nn.Module):
            yield one
        elif id(one) not in seen:
            seen[id(one)] = one  # kept, so that no other object takes its id
            if isinstance(one, functools.partial):
                waiting += [one.func, *one.args, *one.keywords.values()]
            elif one is inner or getattr(one, "__module__", None) == home:
                waiting += _held_by(one)
            elif isinstance(one, list | tuple | dict):
                values = one.values() if isinstance(one, dict) else one
                yield from (value for value in values if isinstance(value, nn.Module))


def _held_by(function: Any) -> list[Any]:
    """What a function's code can reach by a name of its own."""
    if isinstance(function, MethodType):
        return [function.__self__, function.__func__]
    if not isinstance(function, FunctionType):
        slots = getattr(type(function), "__slots__", ())
        slots = [slots] if isinstance(slots, str) else slots
        names = [*getattr(function, "__dict__", ()), *slots]
        held = [getattr(function, name, None) for name in names]
        return [*held, getattr(type(function), "__call__", None)]  # noqa: B004  # what runs
    cells = [cell for cell in function.__closure__ or () if _is_filled(cell)]
    loads = (one.argval for one in dis.get_instructions(function) if one.opname in GLOBALS)
    return [
        *(cell.cell_contents for cell in cells),
        *(function.__globals__[name] for name in loads if name in function.__globals__),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
    ]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a name that has no value yet
        return False
