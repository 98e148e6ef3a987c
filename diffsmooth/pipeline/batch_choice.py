"""How many votes a forward pass: on a GPU as many as fit, by a rule that no timing decides."""

import math

import torch

from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.work_of_a_batch import bytes_of_batch

LARGEST = 4096
TRIED = (8, 32)  # rows whose bytes are counted: the others lie on the line through these
# Margins: for what kernels take for a while, for CUDA itself, and for the allocator's gaps.
OF_ACTIVATIONS, WORKSPACE, OF_MEMORY = 1.25, 2**30, 0.85
NOISE_BYTES = 96  # a number: whole-number noise is made by a dozen steps of 64 bits


def chosen_batch(usual: int, most: int, f: VoteFunction, device: torch.device) -> int:
    """The batch of a run whose user leaves it open.

    The largest power of two up to `LARGEST` that fits into the GPU's memory, which the shapes of
    the networks tell: so all ranks on one kind of GPU, and each start, choose the same. Elsewhere,
    and where the shapes alone do not tell, the usual one.

    Args:
        usual: batch of the command.
        most: votes of an image, which no batch need exceed.
        f: on any device; neither prepared nor compiled.
        device: where it will vote.
    """
    if device.type != "cuda":
        return min(usual, most)
    memory = torch.cuda.get_device_properties(device).total_memory
    fitting = largest_fitting(f, device, memory)
    return min(usual if fitting is None else fitting, most)


def largest_fitting(f: VoteFunction, device: torch.device, memory: int) -> int | None:
    """The largest power of two up to `LARGEST`, at least 1, that fits into so many bytes."""
    few, many = (bytes_of_batch(f, rows, device) for rows in TRIED)
    if few is None or many is None:
        return None
    a_row = (many - few) / (TRIED[1] - TRIED[0])
    fixed = max(0.0, many - TRIED[1] * a_row)
    weights = sum(tensor.nbytes for tensor in (*f.parameters(), *f.buffers()))
    room = OF_MEMORY * memory - weights - WORKSPACE - OF_ACTIVATIONS * fixed
    rows = room / (OF_ACTIVATIONS * a_row + NOISE_BYTES * math.prod(f.image_shape))
    return min(LARGEST, 2 ** max(0, math.floor(math.log2(max(rows, 1)))))
