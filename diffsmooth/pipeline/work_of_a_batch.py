"""What forward passes cost, by the shapes that go through the networks: nothing is computed."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from diffsmooth.models.smoothing.vote_function import VoteFunction


def flops_a_vote(f: VoteFunction) -> int | None:
    """Floating-point operations of one vote: of all its reverse runs and local copies.

    None of a network whose operations depend on more than shapes.
    """
    counter = FlopCounterMode(display=False)
    if not _run(f, 1, f.device, counter):
        return None
    return f.reverse_runs * counter.get_total_flops()


def bytes_of_batch(f: VoteFunction, rows: int, device: torch.device) -> int | None:
    """The most bytes that a forward pass without gradients holds at once, but for the weights.

    What an operation itself takes for a while is not seen, but for the contiguous copy of CUDA's
    group norm. None of a network whose operations depend on more than shapes.

    Args:
        f: not compiled.
        rows: of the batch.
        device: on which it would run; need not be there.
    """
    live = _Live()
    return live.most if _run(f, rows, device, live) else None


def _run(f: VoteFunction, rows: int, device: torch.device, watch: Any) -> bool:
    """One reverse run of a batch under a mode that watches it; whether that can be done."""
    # No inference mode: there, operations that are made of others show none of these.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        weights = {
            name: mode.from_tensor(tensor).to(device)
            for name, tensor in (*f.named_parameters(), *f.named_buffers())
        }
        noisy = torch.zeros(rows, *f.image_shape, device=device)
        draws = noisy.expand(f.purifier.draws, *noisy.shape) if f.purifier.draws else None
        try:
            with watch:
                functional_call(f, weights, (noisy, draws), strict=False)
        except Exception:  # whatever a stranger's network makes of tensors without values
            return False
    return True


class _Live(TorchDispatchMode):
    """The bytes of what operations have made and somebody still holds, and the most that it was."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        if func is torch.ops.aten.native_group_norm.default and not args[0].is_contiguous():
            self.most = max(self.most, self.now + args[0].nbytes)
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self._known.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._let_go, place, size)

    def _let_go(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
