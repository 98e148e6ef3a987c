"""What the parts of f make of a batch, and how far that of two batches differs."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmooth.models.smoothing.probe_batch import Rows
from diffsmooth.models.smoothing.vote_function import VoteFunction

PARTS = ("purifier", "classifier")  # whose the first outputs are


class Outputs(NamedTuple):
    """What f's parts make of a batch.

    Attributes:
        purified: (B, C, H, W).
        scores: (B, m, K), the classifier's output; mean softmax (B, K) where it is compiled, whose
            code gives nothing else.
        confidence: mean softmax (B, K).
    """

    purified: Tensor
    scores: Tensor
    confidence: Tensor


def outputs_of(f: VoteFunction, rows: Rows) -> Outputs:
    """As f computes them, kernel for kernel; of a random purifier, in one reverse run."""
    smoothing = f.local_smoothing
    purified = f.purify(rows.noisy, rows.draws)
    with f.autocast():
        if smoothing._compiled_call_impl is not None:
            scores = confidence = smoothing(purified).clone()  # its memory is used again
        else:
            scores = smoothing.logits(purified).float()
            confidence = scores.softmax(dim=-1).mean(dim=1)
    return Outputs(purified, scores, confidence)


def difference_of_rows(one: Tensor, other: Tensor) -> Tensor:
    """(B,): the largest difference in each row of (B, ...), relative to the largest number.

    Equal infinities, and NaN in both, do not differ.
    """
    one, other = one.flatten(1).double(), other.flatten(1).double()
    same = (one == other) | (one.isnan() & other.isnan())
    gap = torch.where(same, 0.0, (one - other).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    largest = torch.where(one.isfinite(), one.abs(), 0.0).max().clamp(min=1e-300)
    return gap.amax(dim=1) / largest


def tipping(one: Tensor, other: Tensor) -> float:
    """How far mean softmax (B, K) differs at most, infinity if only one is finite."""
    gap = torch.where(one == other, 0.0, one - other)
    both_nan = one.isnan() & other.isnan()
    return float(torch.where(both_nan, 0.0, gap.abs()).nan_to_num(nan=torch.inf).max())


def sha256_of(tensors: Sequence[Tensor | None]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
