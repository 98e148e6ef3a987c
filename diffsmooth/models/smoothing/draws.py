"""What a random purifier draws for a batch of votes: by the number of the reverse run."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from diffsmooth.models.smoothing.noise import NoiseSource, Votes
from diffsmooth.models.smoothing.vote_function import DrawsOfRun, VoteFunction


def draw_run(
    noise: NoiseSource,
    votes: Sequence[Votes],
    draws: int,
    run: int,
    rows: int,
    shape: tuple[int, ...],
) -> Tensor | None:
    """The draws (draws, B, C, H, W) of one reverse run, on the source's device; None of none.

    Each reverse run has lanes of its own, behind lane 0, the votes' own noise.

    Args:
        votes, rows, shape: the batch, see `NoiseSource.draw`.
        draws: how many of them a reverse run needs.
        run: its number, from 0.
    """
    lanes = range(1 + run * draws, 1 + (run + 1) * draws)
    return torch.stack([noise.draw(votes, lane, rows, shape) for lane in lanes]) if lanes else None


def draws_ahead(
    f: VoteFunction, noise: NoiseSource, votes: Sequence[Votes], background: Executor
) -> DrawsOfRun:
    """Gives each reverse run's draws for a batch of f's, on f's device, in any order.

    While the draws of one are used, `background` makes those of the next: all would not fit.
    """
    if not f.purifier.draws:
        return lambda run: None

    def begin(run: int) -> "Future[Tensor | None]":
        arguments = (f.purifier.draws, run, f.batch, f.image_shape)
        return background.submit(draw_run, noise, votes, *arguments)

    begun = {0: begin(0)}

    def draws_of(run: int) -> Tensor | None:
        drawn = (begun.pop(run, None) or begin(run)).result()
        begun.clear()
        if run + 1 < f.reverse_runs:
            begun[run + 1] = begin(run + 1)
        return None if drawn is None else drawn.to(f.device, non_blocking=True)

    return draws_of
