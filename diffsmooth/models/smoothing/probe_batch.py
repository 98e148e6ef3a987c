"""Does what f makes of a row depend on its place or on the other rows? Batches that show it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes, draw_run
from diffsmooth.models.smoothing.vote_function import VoteFunction

GREYS = (0.5, 0.25, 0.75)  # stand in for images where there are none
STRETCH = 4.0  # of every fourth row: what depends on the batch only for rare rows shows, too
# Flat strangers, noise levels beyond 0 and 1: so that they move the batch's mean and maximum.
DARK, BRIGHT = 10.0, 100.0
PARTS = ("purifier", "classifier")  # of f, whose the first `Outputs` are


class Rows(NamedTuple):
    """Rows of a forward pass.

    Attributes:
        noisy: (B, C, H, W), what the networks see.
        draws: (draws, B, C, H, W) of one reverse run of a random purifier, or None.
    """

    noisy: Tensor
    draws: Tensor | None = None

    def take(self, index: Tensor) -> "Rows":
        """The rows of these numbers, in their order."""
        index = index.to(self.noisy.device)
        return Rows(self.noisy[index], None if self.draws is None else self.draws[:, index])

    def beside(self, other: "Rows") -> "Rows":
        """These rows, and others behind them."""
        draws = None
        if self.draws is not None and other.draws is not None:
            draws = torch.cat([self.draws, other.draws], dim=1)
        return Rows(torch.cat([self.noisy, other.noisy]), draws)

    def to(self, place: torch.device | torch.dtype) -> "Rows":
        """On another device, or in another number format."""
        return Rows(self.noisy.to(place), None if self.draws is None else self.draws.to(place))


class Arrangement(NamedTuple):
    """Rows 0 .. B - 1, and strangers B .. 2 B - 1, in a batch of B.

    Attributes:
        what: differs from the batch of the rows in their order, in words.
        source: number of the row at each place (B,).
    """

    what: str
    source: Tensor

    @property
    def kept(self) -> Tensor:
        """The places that hold rows, not strangers."""
        return torch.nonzero(self.source < len(self.source))[:, 0]

    def pairs(
        self, call: Callable[[Rows], Sequence[Tensor]], expected: Sequence[Tensor], both: Rows
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each output, that of the kept rows in their own batch, and in this one.

        Args:
            call: from rows to outputs (B, ...).
            expected: the outputs of the rows in their order.
            both: the rows, and the strangers behind them.
        """
        kept, found = self.kept, call(both.take(self.source))
        rows = self.source[kept]
        return [
            (one[rows.to(one.device)], other[kept.to(other.device)])
            for one, other in zip(expected, found, strict=True)
        ]


def arrangements(count: int) -> list[Arrangement]:
    """Every row at another place, half of the rows among strangers, and a batch of one row only.

    The rows move along one random cycle: were places of two kinds, some row would change its kind;
    and a row that looks at its neighbour, say, gets another one. None of a batch of one.
    """
    if count == 1:
        return []
    order, left_out = _order(count)
    moved = torch.empty_like(order)
    moved[order.roll(1)] = order
    among = torch.arange(count)
    among[left_out] = count + torch.arange(len(left_out))
    return [
        Arrangement("its place in the batch", moved),
        Arrangement("the other rows", among),
        Arrangement("its place in the batch or the other rows", torch.zeros_like(order)),
    ]


def moved_among_strangers(count: int) -> Arrangement:
    """Both at once: half of the rows, at other places, among strangers."""
    order, left_out = _order(count)
    source = torch.empty_like(order)
    source[order.roll(1)] = order
    source[left_out] = count + torch.arange(len(left_out))
    return Arrangement("its place in the batch or the other rows", source)


def _order(count: int) -> tuple[Tensor, Tensor]:
    """The rows in a random order, always the same; and those that strangers replace."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return order, order[count // 2 :]


@torch.inference_mode()  # as votes have it
def probe_rows(f: VoteFunction, images: Sequence[Tensor] = ()) -> tuple[Rows, Rows]:
    """Rows for a batch of f's, and as many strangers; the same ones at every call.

    Every fourth row is stretched around grey. The strangers are flat ones far outside of the range
    of images, further noisy images, and the zeros that pad a batch.

    Args:
        f: gives the shape, the noise level and the purifier's draws.
        images: (C, H, W) in [0, 1], on the CPU, that get the noise; grey ones where there are none.
    """
    images = list(images) or [torch.full(f.image_shape, grey) for grey in GREYS]
    images = images[: f.batch]
    counts = [len(range(i, f.batch, len(images))) for i in range(len(images))]
    source = NumpyNoise()

    def noisy(stage: int) -> Rows:
        votes = [
            Votes(NoiseKey(0, "probe", "", "", i), stage, 0, count)
            for i, count in enumerate(counts)
        ]
        draws = draw_run(source, votes, f.purifier.draws, 0, f.batch, f.image_shape)
        return Rows(source.noisy(votes, images, f.noise_level, f.batch).images, draws)

    rows, strangers = noisy(0), noisy(1)
    rows.noisy[3::4] = 0.5 + STRETCH * (rows.noisy[3::4] - 0.5)
    strangers.noisy[0::4] = 1 + BRIGHT * f.noise_level
    strangers.noisy[2::4] = -DARK * f.noise_level
    strangers.noisy[3::4] = 0.0
    return rows.to(f.device), strangers.to(f.device)


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
