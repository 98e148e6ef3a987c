"""As the votes go on, now and then: is f still the fixed function that it was found to be?"""

from functools import partial

import torch

from diffsmooth.models.smoothing.fixed_function import (
    ROUNDING,
    FixedFunction,
    check_unchanged,
    refuse_random,
)
from diffsmooth.models.smoothing.outputs import PARTS, difference_of_rows, outputs_of, tipping
from diffsmooth.models.smoothing.probe_batch import Rows, moved_among_strangers, probe_rows
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats.errors import UserError

SPOT_CHECK = 1000  # batches between two spot checks: they cost 0.2 % of the time


@torch.inference_mode()
def check_again(f: VoteFunction, found: FixedFunction, rows: Rows) -> None:
    """A spot check, on rows that vote.

    Args:
        f: what votes, as it is.
        found: before the first vote.
        rows: a full batch, on f's device.

    Raises:
        UserError: f is not what was found.
    """
    call, arrangement = partial(outputs_of, f), moved_among_strangers(f.batch)
    base = call(rows)
    pairs = arrangement.pairs(call, base, rows.beside(probe_rows(f)[1])) if f.batch > 1 else []
    if not pairs or not all(torch.equal(*pair) for pair in pairs):
        refuse_random(base, call(rows))
    rounds = pairs and not found.exact and tipping(*pairs[-1]) <= ROUNDING[f.precision]
    for part, pair in zip(PARTS, pairs, strict=False):
        gap = 0.0 if rounds else float(difference_of_rows(*pair).max())
        if gap:
            raise UserError(
                f"f is not one fixed function of each image: a spot check found that what the "
                f"{part} makes of one depends on {arrangement.what} (by up to {gap:.1e}), as it "
                "did not before the first vote; the images in flight count for nothing"
            )
    check_unchanged(f)
