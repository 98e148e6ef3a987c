"""What a random purifier draws for a batch of votes."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor

import torch
from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseSource, Votes
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import DrawsOfRun


def draws_of_runs(
    purifier: Purifier,
    noise: NoiseSource,
    votes: Sequence[Votes],
    rows: int,
    shape: tuple[int, ...],
    device: torch.device,
    background: Executor,
) -> DrawsOfRun:
    """Gives the draws of one run after the other, in order.

    Each run has lanes of its own. One run's draws are made at a time, and the next run's in the
    background: all would not fit.

    Args:
        purifier: whose draws.
        noise: their source.
        votes, rows, shape: of the batch, see `NoiseSource.draw`.
        device: where they are wanted.
        background: makes them.
    """

    def draw(run: int) -> Tensor:
        lanes = range(1 + run * purifier.draws, 1 + (run + 1) * purifier.draws)
        return torch.stack([noise.draw(votes, lane, rows, shape) for lane in lanes])

    runs = purifier.reverse_runs if purifier.draws else 0
    ahead = deque([background.submit(draw, 0)] if runs else [])

    def draws_of(run: int) -> Tensor | None:
        if not runs:
            return None
        drawn = ahead.popleft().result().to(device, non_blocking=True)
        if run + 1 < runs:
            ahead.append(background.submit(draw, run + 1))
        return drawn

    return draws_of
