"""What makes the networks of a vote function fast, without a choice that depends on a timing."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from diffsmooth.models.classifiers.cifar_resnet import CifarResNet
from diffsmooth.models.diffusion.unet import Pointwise, UNet
from diffsmooth.models.smoothing.finite import check_finite_weights, watched_layers
from diffsmooth.models.smoothing.fixed_function import ERRORS, errors_of_networks
from diffsmooth.models.smoothing.fused import FusedConv, FusedResNet
from diffsmooth.models.smoothing.fused_norm import fuse_norms
from diffsmooth.models.smoothing.host import keep_memory
from diffsmooth.models.smoothing.memory import memory_for
from diffsmooth.models.smoothing.precision import autocast
from diffsmooth.models.smoothing.probe_batch import probe_rows
from diffsmooth.models.smoothing.unchanged import can_fuse
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.models.words import Kernels

# Layers that autocast runs in bf16, and that use their weights for nothing else. Exact types: a
# subclass may standardise its weights first, say, which autocast would leave to float32.
CAST = (nn.Conv1d, nn.Conv2d, nn.Linear, Pointwise, FusedConv)

# Of torch.compile on CUDA; both launch by CUDA graphs.
MODES: dict[Kernels, str] = {"fixed": "reduce-overhead", "timed": "max-autotune"}


@torch.no_grad()
def prepare(
    f: VoteFunction, compiled: bool = False, norm_kernel: bool = False, kernels: Kernels = "fixed"
) -> None:
    """Makes the networks of f ready for many votes, in place: call it once f is on its device.

    f stays one fixed function of each row, but for low bits not the same one as before. Its
    networks can then only vote: they train, and load weights, no more.

    Args:
        f: its U-Net and its classifier are changed.
        compiled: whether torch.compile fuses what lies between the convolutions; the first batch
            takes a minute or two then, or seconds if torch's cache on disk has the code.
        norm_kernel: whether our own kernel computes its U-Net's group norms, where it can.
        kernels: how those of compiled networks are chosen on CUDA.

    Raises:
        UserError: weights, folded or not, or what layers make of a noisy image, that are not
            finite, or nearly so.
    """
    smoothing = f.local_smoothing
    for what, network in f.networks.items():
        check_finite_weights(network, what)
    _try_out(f)
    if f.device.type == "cpu":
        keep_memory()
    for place, parent in list(smoothing.named_modules()):
        for name, child in parent.named_children():
            if isinstance(child, CifarResNet) and can_fuse(child):
                path = f"{place}.{name}.".lstrip(".").removeprefix("classifier.")
                fused = FusedResNet(child, f"the classifier: {path}")
                setattr(parent, name, fused.eval().to(memory_format=torch.channels_last))
    if norm_kernel:
        for network in f.networks.values():
            fuse_norms(network)
    if f.precision == "bf16":
        _cast_weights(f)
    with autocast(f.precision, f.device.type):
        # Tensor code only: a schedule's NumPy scalars would be compiled in, one by one.
        parts = f.purifier.prepare(f.sigma)
    if compiled:
        if not any(isinstance(module, FusedConv) and module.onednn for module in f.modules()):
            parts = [*parts, smoothing]  # in the others, nothing is left to fuse
        mode = MODES[kernels] if f.device.type == "cuda" else None
        for part in parts:
            part.compile(dynamic=False, mode=mode)


def _cast_weights(f: VoteFunction) -> None:
    """Casts weights once that autocast would cast in each pass.

    Another package's network may use them elsewhere, too, in float32: where the cast changes a bit
    of what it gives, or its number format, it keeps its weights as they are.
    """
    row = probe_rows(f)[0].take(torch.arange(1))

    def answer(network: nn.Module) -> Tensor | None:
        """What it gives; None where two number formats meet."""
        try:
            if network is f.purifier:
                return f.purify(*row)
            with f.autocast():
                return f.local_smoothing.logits(row.noisy)
        except ERRORS:
            return None

    for network in f.networks.values():
        ours = set(_ours(network))
        theirs = {module for module in network.modules() if type(module) in CAST} - ours
        kept = _cast(ours)
        if ours and answer(network) is None:  # within layers that are kept from bf16
            _restore(kept)
        if theirs:
            before, kept = answer(network), _cast(theirs)
            after = answer(network)
            same = before is not None and after is not None and before.dtype == after.dtype
            if not (same and torch.equal(after, before)):  # type: ignore[arg-type]
                _restore(kept)


def _ours(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of our own networks, which are in bf16 as soon as their weights are."""
    for module in network.modules():
        if isinstance(module, FusedConv):
            yield module
        elif type(module) is UNet:
            yield from (layer for layer in module.modules() if type(layer) in CAST)


def _cast(layers: Iterable[nn.Module]) -> list[tuple[nn.Parameter, Tensor]]:
    """Casts weights; gives what they were."""
    kept = [(p, p.data) for layer in layers for p in layer.parameters()]
    for layer in layers:
        layer.to(torch.bfloat16)
    return kept


def _restore(kept: list[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, data in kept:
        parameter.data = data


def _try_out(f: VoteFunction) -> None:
    """Raises UserError for networks that do not run, or a layer that gives what is not finite."""
    rows = probe_rows(f)[0].take(torch.arange(min(f.batch, 2)))
    with contextlib.ExitStack() as stack:
        for what, network in f.networks.items():
            stack.enter_context(watched_layers(network, what))
        stack.enter_context(memory_for(f.batch))
        stack.enter_context(errors_of_networks(f))
        f(*rows)
