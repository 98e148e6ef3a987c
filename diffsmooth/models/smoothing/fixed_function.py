"""Is f one fixed function of each image? A certificate is about nothing else.

Checked before the first vote, and now and then as the votes go on: what comes of a row is the same
each time, and depends neither on its place nor on the other rows, but for rounding.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from diffsmooth.models.classifiers.logits import format_hint
from diffsmooth.models.smoothing.finer_arithmetic import try_again
from diffsmooth.models.smoothing.finite import check_finite_weights
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.memory import is_out_of_memory, memory_for
from diffsmooth.models.smoothing.probe_batch import (
    PARTS,
    Outputs,
    Rows,
    arrangements,
    difference_of_rows,
    moved_among_strangers,
    outputs_of,
    probe_rows,
    sha256_of,
    tipping,
)
from diffsmooth.models.smoothing.purifiers import IdentityPurifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError

SPOT_CHECK = 1000  # batches between two spot checks: they cost 0.2 % of the time
LONG = 5.0  # seconds of a pass, from which on it is said what takes so long

USUAL_RANGE = 0.5  # purified images may be as far beyond [0, 1] without a word

# What rounding may make of outputs, relative to the largest: of logits and purified images where
# not all rows could be tried again, of mean softmax in a spot check. bf16 was seen to make 5e-2.
ROUNDING = {"float32": 1e-2, "tf32": 0.1, "bf16": 0.5}

# What code raises that is given other numbers than it was made for.
ERRORS = (
    RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError, NameError,
    ArithmeticError,
)  # fmt: skip


class NotFixed(UserError):
    """f is not one fixed function: what it has voted on proves nothing."""


class FixedFunction(NamedTuple):
    """What was found of an f that is one fixed function.

    Attributes:
        exact: whether each row's outputs are the same bits at any place, beside any rows.
        rounding: by how much the mean softmax of a row differs, if not.
        inputs, outputs: sha256 of a fixed batch, and of what the networks made of it.
        seconds: that a batch took, the fastest of a few; no part of the finding.
    """

    exact: bool
    rounding: float
    inputs: str
    outputs: str
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.exact:
            return "each row's outputs are the same bits at any place in the batch"
        return (
            "rows depend on their place in the batch by rounding: their mean softmax by "
            f"{self.rounding:.1e} at most, which may tip near-ties"
        )


class _Known(NamedTuple):
    """What was found of an f, in which state it was, and the batch that showed it."""

    state: object
    found: FixedFunction
    rows: Rows


_known: "WeakKeyDictionary[VoteFunction, _Known]" = WeakKeyDictionary()


def ensure_fixed(
    f: VoteFunction, images: Sequence[Tensor] = (), say: Callable[[str], object] = lambda line: None
) -> FixedFunction:
    """Checks f, unless it was found fixed as it is: same weights, modes, batch and threads.

    Four forward passes; one more, and four in finer arithmetic, where rows depend on their place.

    Args:
        f: prepared and on its device, as it will vote.
        images: (C, H, W) in [0, 1], on the CPU, to which noise of this check's own is added.
        say: is told what takes so long, and of a denoiser's strange images.

    Raises:
        UserError: f is random, or looks at its batch: the part that does is named; or weights are
            not finite.
        NetworkError: it does not run, or has another number of classes.
    """
    state = _state(f)
    known = _known.get(f)
    if known is None or known.state != state:
        for what, network in f.networks.items():
            check_finite_weights(network, what)
        with memory_for(f.batch):
            rows, strangers = probe_rows(f, images)
            known = _known[f] = _Known(state, _check(f, rows, strangers, say), rows)
    return known.found


def _state(f: VoteFunction) -> object:
    """Changes whenever f may have."""
    tensors = tuple(
        (id(t), t.data_ptr(), 0 if t.is_inference() else t._version)
        for t in chain(f.parameters(), f.buffers())
    )
    modes = tuple(
        (module.training, module._compiled_call_impl is not None) for module in f.modules()
    )
    return f.batch, f.sigma, f.precision, f.device, torch.get_num_threads(), tensors, modes


@torch.inference_mode()
def _check(
    f: VoteFunction, rows: Rows, strangers: Rows, say: Callable[[str], object]
) -> FixedFunction:
    start, given = time.monotonic(), rows.noisy.clone()
    with errors_of_networks(f):
        base = outputs_of(f, rows)
    took = time.monotonic() - start
    if not torch.equal(rows.noisy, given):
        raise UserError(
            "the purifier changes the images that it is given in place: let it work on a copy, "
            "such as noisy.clone()"
        )
    if took > LONG:
        say(
            "checking that f is one fixed function of each image: the first of 4 forward passes "
            f"of {f.batch} took {took:.0f} s"
        )
    f.check_classes(base[-1])
    _look_at_range(f, base.purified, say)
    both, rounding = rows.beside(strangers), 0.0
    gaps = {part: torch.zeros(f.batch, dtype=torch.float64, device=f.device) for part in PARTS}
    passes = []

    def timed(rows: Rows) -> Outputs:
        start = time.monotonic()
        outputs = outputs_of(f, rows)
        outputs[-1].cpu()  # waits for the device
        passes.append(time.monotonic() - start)
        return outputs

    for arrangement in arrangements(f.batch):
        pairs = arrangement.pairs(timed, base, both)
        source = arrangement.source[arrangement.kept].to(f.device)
        for gap, pair in zip(gaps.values(), pairs, strict=False):
            gap.scatter_reduce_(0, source, difference_of_rows(*pair), "amax")
        rounding = max(rounding, tipping(*pairs[-1]))
    exact = not any(gap.any() for gap in gaps.values())
    if f.batch == 1 or not exact:  # what is random differs there, too
        _refuse_random(base, outputs_of(f, rows))
    for part, gap in gaps.items():
        if gap.any():
            _refuse_unless_rounding(f, part, base, rows, strangers, gap)
    fastest = min(passes, default=took)  # the first may have compiled
    return FixedFunction(exact, rounding, sha256_of(rows), sha256_of(base), fastest)


@contextmanager
def errors_of_networks(f: VoteFunction) -> Iterator[None]:
    """Makes an error of the networks' own code a NetworkError; want of memory stays what it is."""
    try:
        yield
    except UserError:
        raise
    except ERRORS as error:
        if is_out_of_memory(error):
            raise
        hint = format_hint(*f.networks.values())
        kind = f"{type(error).__name__}: " if isinstance(error, KeyError) else ""
        message = f"the networks do not run on noisy images: {kind}{error}{hint}"
        raise NetworkError(message) from error


def _look_at_range(f: VoteFunction, purified: Tensor, say: Callable[[str], object]) -> None:
    """Says so where purified images are far from [0, 1]: certificates hold, and tell little."""
    if isinstance(f.purifier, IdentityPurifier):
        return
    low, high = (float(end) for end in purified.nan_to_num(nan=0.5).aminmax())
    if low < -USUAL_RANGE or high > 1 + USUAL_RANGE:
        say(
            f"note: the purified images lie between {low:.2g} and {high:.2g}, and the classifier "
            "is shown them so: a denoiser gives images in [0, 1], not in [-1, 1] or 0 to 255"
        )


def _refuse_random(one: Outputs, other: Outputs) -> None:
    """Raises UserError where two passes of f over the same batch differ."""
    for part, *pair in zip(PARTS, one, other, strict=False):
        gap = float(difference_of_rows(*pair).max())
        if gap:
            raise NotFixed(
                f"f is not one fixed function: the {part} gave other numbers for the same batch "
                f"(by up to {gap:.1e}): it is random, or remembers what it saw; no certificate "
                "holds for it"
            )


def _refuse_unless_rounding(
    f: VoteFunction, part: str, base: Outputs, rows: Rows, strangers: Rows, gap: Tensor
) -> None:
    """A part alone, on inputs that are the same: raises UserError unless it only rounds."""
    sigma = f.sigma

    def purify(purifier: nn.Module, rows: Rows) -> Sequence[Tensor]:
        return [purifier(rows.noisy, sigma, rows.draws)]

    def classify(smoothing: nn.Module, rows: Rows) -> Sequence[Tensor]:
        logits = smoothing.logits(rows.noisy)  # type: ignore[operator]
        return [logits, logits.softmax(dim=-1).mean(dim=1)]

    if part == "purifier":
        finding = try_again(part, f.purifier, purify, rows, strangers, gap)
    else:
        purified = Rows(base.purified)
        finding = try_again(part, f.local_smoothing, classify, purified, Rows(strangers.noisy), gap)
    worst = float(gap.max())
    if finding.is_rounding and (finding.all_rows or worst <= ROUNDING[f.precision]):
        return
    left = f"of which {finding.difference:.1e} stay in {finding.number_format}"
    if finding.is_rounding:
        left = "too much for rounding"
    raise NotFixed(
        f"f is not one function of each image: what the {part} makes of one depends on "
        f"{finding.what} (by up to {worst:.1e}, {left}): batch statistics, dynamic scales? "
        "No certificate holds for it"
    )


@torch.inference_mode()
def check_again(f: VoteFunction, found: FixedFunction, rows: Rows) -> None:
    """A spot check: raises UserError where f is not what was found before the first vote.

    Its rows are a full batch of those that vote, on f's device.
    """
    call, arrangement = partial(outputs_of, f), moved_among_strangers(f.batch)
    base = call(rows)
    pairs = arrangement.pairs(call, base, rows.beside(probe_rows(f)[1])) if f.batch > 1 else []
    if not pairs or not all(torch.equal(*pair) for pair in pairs):
        _refuse_random(base, call(rows))
    rounds = pairs and not found.exact and tipping(*pairs[-1]) <= ROUNDING[f.precision]
    for part, pair in zip(PARTS, pairs, strict=False):
        gap = 0.0 if rounds else float(difference_of_rows(*pair).max())
        if gap:
            raise NotFixed(
                f"f is not one fixed function of each image: a spot check found that what the "
                f"{part} makes of one depends on {arrangement.what} (by up to {gap:.1e}), as it "
                "did not before the first vote; the images in flight count for nothing"
            )
    check_unchanged(f)


@torch.inference_mode()
def check_unchanged(f: VoteFunction) -> None:
    """One pass: raises UserError unless f gives the numbers of when it was found fixed."""
    known = _known.get(f)
    if known is None:
        return
    with memory_for(f.batch):
        outputs = sha256_of(outputs_of(f, known.rows))
    if outputs != known.found.outputs:
        raise NotFixed(
            "f is not one fixed function: it gives other numbers for the same batch than before "
            "the first vote: it changes as it is called; no certificate of this run holds"
        )
