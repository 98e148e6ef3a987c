"""f as a network with logits, as attacks want one, in as much memory as there is."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffsmooth.models.smoothing.vote_function import VoteFunction


class LogConfidence(nn.Module):
    """The logarithm of f's mean softmax, whose softmax is that mean again.

    Args:
        f: the vote function, as it was loaded: one that is prepared for votes has no gradients.
        rows: of a forward pass. Where there are more, the activations of each piece are computed
            again on the way back (activation checkpointing), so that memory is that of one piece.
        straight_through: takes the purifier's gradient to be the identity: an attack that costs
            less, and is weaker where the purifier turns directions.
        draws: what a random purifier needs for one reverse run, (draws, B, C, H, W), of the rows of
            all batches to come; None where none are needed.

    Source: the straight-through gradient is BPDA, Athalye et al. 2018.
    """

    def __init__(
        self,
        f: VoteFunction,
        rows: int,
        straight_through: bool = False,
        draws: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.f = f
        self._rows = rows
        self._straight_through = straight_through
        self._draws = draws

    def forward(self, noisy: Tensor) -> Tensor:
        """Log mean softmax (B, K), float32, of noisy images (B, C, H, W)."""
        if len(noisy) <= self._rows:
            return self._piece(noisy, self._draws)
        pieces = []
        for start in range(0, len(noisy), self._rows):
            own = slice(start, start + self._rows)
            draws = None if self._draws is None else self._draws[:, own]
            # It draws nothing: there is no state of generators to keep.
            pieces.append(
                checkpoint(
                    self._piece, noisy[own], draws, use_reentrant=False, preserve_rng_state=False
                )
            )
        return torch.cat(pieces)

    def _piece(self, noisy: Tensor, draws: Tensor | None) -> Tensor:
        f = self.f
        if not self._straight_through:
            confidence = f(noisy, draws)
        else:
            with torch.no_grad():
                moved = f.purify(noisy, draws) - noisy
            with f.autocast():
                confidence = f.local_smoothing(noisy + moved)
        # Of a class without any confidence the gradient is 0 / 0.
        return confidence.clamp_min(torch.finfo(confidence.dtype).tiny).log()
