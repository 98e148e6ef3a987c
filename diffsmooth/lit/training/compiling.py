"""The network of a training, compiled for its steps."""

from typing import Any

import torch
from torch import nn

from diffsmooth.stats.errors import UserError

BACKEND = "inductor"
GRAPHS = 64  # of a network at most: a mode, a batch's size and whose gradients make one


def compile_for_steps(network: nn.Module) -> None:
    """Compiles a network's calls with gradients, in place; keys of its state dict stay, and copies
    of it are not compiled.

    Calls without gradients (validation, what is logged of an attack) are as ever: so what is
    measured does not depend on it. Each size of a batch is compiled once.

    A network that cannot be compiled whole raises at its first call: it never runs as it is
    instead, whatever torch's switches say.

    Raises:
        UserError: torch's compiler is switched off.
    """
    if torch._dynamo.config.disable:
        raise UserError("compile: TORCH_COMPILE_DISABLE switches torch's compiler off")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    network.compile(backend=BACKEND, fullgraph=True, dynamic=False)
    compiled = network._compiled_call_impl
    assert compiled is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        run = compiled if torch.is_grad_enabled() else network._call_impl
        return run(*args, **kwargs)

    network._compiled_call_impl = call


def compile_no_more(network: nn.Module) -> None:
    """As it was before `compile_for_steps`."""
    network._compiled_call_impl = None
