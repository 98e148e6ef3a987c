"""Is f one fixed function of each image? A certificate is about nothing else.

Checked before the first vote and, as the votes go on, now and then: what comes of a row
is the same each time, and depends neither on its place nor on the other rows, but for rounding.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from diffsmooth.models.smoothing.finer_arithmetic import difference_of_rows, try_again
from diffsmooth.models.smoothing.finite import check_finite_weights
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.memory import is_out_of_memory, memory_for
from diffsmooth.models.smoothing.probe_batch import (
    Rows,
    arrangements,
    moved_among_strangers,
    probe_rows,
)
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError

SPOT_CHECK = 1000  # batches between two spot checks: they cost 0.2 % of the time
LONG = 5.0  # seconds of a pass, from which on it is said what takes so long

# What rounding may make of outputs, relative to the largest: of logits and purified images where
# not all rows could be tried again, of mean softmax in a spot check. bf16 was seen to make 5e-2.
ROUNDING = {"float32": 1e-2, "tf32": 0.1, "bf16": 0.5}


class FixedFunction(NamedTuple):
    """What was found of an f that is one fixed function.

    Attributes:
        exact: whether each row's outputs are the same bits at any place, beside any rows.
        rounding: by how much the mean softmax of a row differs, if not.
        inputs, outputs: sha256 of a fixed batch, and of what the networks made of it.
    """

    exact: bool
    rounding: float
    inputs: str
    outputs: str

    def __str__(self) -> str:
        if self.exact:
            return "each row's outputs are the same bits at any place in the batch"
        return (
            "rows depend on their place in the batch by rounding: their mean softmax by "
            f"{self.rounding:.1e} at most, which may tip near-ties"
        )


class Outputs(NamedTuple):
    """Of one run of f.

    Attributes:
        purified: (B, C, H, W).
        scores: (B, m, K), the classifier's output; mean softmax (B, K) where it is compiled, whose
            code gives nothing else.
        confidence: mean softmax (B, K).
    """

    purified: Tensor
    scores: Tensor
    confidence: Tensor

    def take(self, index: Tensor) -> "Outputs":
        """Of the rows of these numbers."""
        return Outputs(*(output[index.to(output.device)] for output in self))


PARTS = {"purifier": 0, "classifier": 1}  # which of the outputs is whose, first things first


class _Known(NamedTuple):
    """What was found of an f, in which state it was, and the batch that showed it."""

    state: object
    found: FixedFunction
    rows: Rows


_known: "WeakKeyDictionary[VoteFunction, _Known]" = WeakKeyDictionary()


def ensure_fixed(
    f: VoteFunction,
    images: Sequence[Tensor] = (),
    say: Callable[[str], object] = lambda line: None,
) -> FixedFunction:
    """Checks f, unless it was found fixed as it is: same weights, modes, batch and threads.

    Four forward passes; one more, and four in finer arithmetic, where rows depend on their place.

    Args:
        f: prepared and on its device, as it will vote.
        images: (C, H, W) in [0, 1], on the CPU, to which noise of this check's own is added.
        say: is told what takes so long.

    Raises:
        UserError: f is random, or looks at its batch: the part that does is named; or weights are
            not finite.
        NetworkError: it does not run.
    """
    state = _state(f)
    known = _known.get(f)
    if known is None or known.state != state:
        check_finite_weights(f.purifier, "the purifier")
        check_finite_weights(f.local_smoothing.classifier, "the classifier")
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
    start = time.monotonic()
    base = _first_outputs(f, rows)
    took = time.monotonic() - start
    if took > LONG:
        say(
            "checking that f is one fixed function of each image: the first of 4 forward passes "
            f"of {f.batch} took {took:.0f} s"
        )
    both, rounding = rows.beside(strangers), 0.0
    gaps = {part: torch.zeros(f.batch, dtype=torch.float64, device=f.device) for part in PARTS}
    for arrangement in arrangements(f.batch):
        kept = arrangement.kept
        source = arrangement.source[kept].to(f.device)
        expected, found = base.take(source), _outputs(f, both.take(arrangement.source)).take(kept)
        for part, which in PARTS.items():
            gap = difference_of_rows(expected[which], found[which])
            gaps[part].scatter_reduce_(0, source, gap, "amax")
        rounding = max(rounding, _tipping(expected, found))
    exact = not any(gap.any() for gap in gaps.values())
    if f.batch == 1 or not exact:  # what is random differs there, too
        _refuse_random(base, _outputs(f, rows))
    for part, gap in gaps.items():
        if gap.any():
            _refuse_unless_rounding(f, part, base, rows, strangers, gap)
    return FixedFunction(exact, rounding, _sha256(rows), _sha256(base))


def _first_outputs(f: VoteFunction, rows: Rows) -> Outputs:
    try:
        return _outputs(f, rows)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise NetworkError(f"the networks do not run on noisy images: {error}") from error


def _refuse_random(one: Outputs, other: Outputs) -> None:
    for part, which in PARTS.items():
        gap = float(difference_of_rows(one[which], other[which]).max())
        if gap:
            raise UserError(
                f"f is not one fixed function: the {part} gave other numbers for the same batch "
                f"(by up to {gap:.1e}): it is random, or remembers what it saw; no certificate "
                "holds for it"
            )


def _refuse_unless_rounding(
    f: VoteFunction,
    part: str,
    base: Outputs,
    rows: Rows,
    strangers: Rows,
    gap: Tensor,
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
    raise UserError(
        f"f is not one function of each image: what the {part} makes of one depends on "
        f"{finding.what} (by up to {worst:.1e}, {left}): batch statistics, dynamic scales? "
        "No certificate holds for it"
    )


@torch.inference_mode()
def check_unchanged(f: VoteFunction) -> None:
    """One pass: does f still give the numbers that it gave when it was found fixed?

    Raises:
        UserError: it does not.
    """
    known = _known.get(f)
    if known is None:
        return
    with memory_for(f.batch):
        outputs = _sha256(_outputs(f, known.rows))
    if outputs != known.found.outputs:
        raise UserError(
            "f is not one fixed function: it gives other numbers for the same batch than before "
            "the first vote: it changes as it is called; no certificate of this run holds"
        )


@torch.inference_mode()
def check_again(f: VoteFunction, found: FixedFunction, rows: Rows) -> None:
    """A spot check, on rows that vote.

    Args:
        f: is as it was.
        found: before the first vote.
        rows: a full batch, on f's device.

    Raises:
        UserError: f is not what was found.
    """
    base = _outputs(f, rows)
    if f.batch == 1:
        _refuse_random(base, _outputs(f, rows))
        return check_unchanged(f)
    arrangement = moved_among_strangers(f.batch)
    kept = arrangement.kept
    both = rows.beside(probe_rows(f)[1])
    expected = base.take(arrangement.source[kept])
    moved = _outputs(f, both.take(arrangement.source)).take(kept)
    if all(torch.equal(one, other) for one, other in zip(expected, moved, strict=True)):
        return check_unchanged(f)
    _refuse_random(base, _outputs(f, rows))
    if not found.exact and _tipping(expected, moved) <= ROUNDING[f.precision]:
        return check_unchanged(f)
    for part, which in PARTS.items():
        gap = float(difference_of_rows(expected[which], moved[which]).max())
        if gap:
            raise UserError(
                f"f is not one fixed function of each image: a spot check found that what the "
                f"{part} makes of one depends on {arrangement.what} (by up to {gap:.1e}), as it "
                "did not before the first vote; the images in flight count for nothing"
            )
    return None


def _outputs(f: VoteFunction, rows: Rows) -> Outputs:
    """As f computes them, kernel for kernel; of a random purifier, in its first run."""
    smoothing = f.local_smoothing
    purified = f.purify(rows.noisy, rows.draws)
    with f.autocast():
        if smoothing._compiled_call_impl is not None:
            scores = confidence = smoothing(purified).clone()  # its memory is used again
        else:
            scores = smoothing.logits(purified).float()
            confidence = scores.softmax(dim=-1).mean(dim=1)
    return Outputs(purified, scores, confidence)


def _tipping(one: Outputs, other: Outputs) -> float:
    """How far the mean softmax of a row differs at most, infinity if only one is finite."""
    gap = torch.where(one.confidence == other.confidence, 0.0, one.confidence - other.confidence)
    both_nan = one.confidence.isnan() & other.confidence.isnan()
    return float(torch.where(both_nan, 0.0, gap.abs()).nan_to_num(nan=torch.inf).max())


def _sha256(tensors: Sequence[Tensor | None]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
