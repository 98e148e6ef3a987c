"""Images of 8 bits plus whole-number noise, made where they are used: one pass over the output.

What torch's operations would read and write some two hundred times, a program keeps in registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # counters of a program, of four words each


@triton.jit
def _fill(  # type: ignore[no-untyped-def]  # Triton reads annotations, and knows its own only
    out, void, streams, sources, grey, floors, offset, size, last,
    STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k0 = tl.load(streams + 4 * row).to(tl.uint64, bitcast=True)
    k1 = tl.load(streams + 4 * row + 1).to(tl.uint64, bitcast=True)
    first = tl.load(streams + 4 * row + 2).to(tl.uint64, bitcast=True)
    stage = tl.load(streams + 4 * row + 3).to(tl.uint64, bitcast=True)
    image = tl.load(sources + row)
    zero = tl.zeros((BLOCK,), dtype=tl.uint64)
    c0, c1 = first + at.to(tl.uint64) + 1, zero  # NumPy counts before it draws
    c2, c3 = zero + stage, zero
    for _ in tl.static_range(10):
        by0, by1 = zero + 0xD2E7470EE14C6C93, zero + 0xCA5A826395121157
        high0, low0 = tl.umulhi(c0, by0), c0 * by0
        high1, low1 = tl.umulhi(c2, by1), c2 * by1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B97F4A7C15
        k1 += 0xBB67AE8584CAA73B
    for lane in tl.static_range(4):
        word = c0 if lane == 0 else (c1 if lane == 1 else (c2 if lane == 2 else c3))
        element = 4 * at + lane
        inside = element < size
        # The least place whose floor is not below the word.
        low, high = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32) + last
        for _ in tl.static_range(STEPS):
            middle = (low + high) // 2
            below = tl.load(floors + middle).to(tl.uint64, bitcast=True) < word
            low, high = tl.where(below, middle + 1, low), tl.where(below, high, middle)
        ambiguous = inside & (tl.load(floors + low).to(tl.uint64, bitcast=True) == word)
        if tl.max(ambiguous.to(tl.int32), axis=0) > 0:
            tl.store(void + row, 1)
        level = (low + offset).to(tl.float32)
        level += tl.load(grey + image * size + element, mask=inside, other=0.0)
        tl.store(out + row * size + element, tl.div_rn(level, 255.0), mask=inside)


def fill_noisy(
    out: Tensor, void: Tensor, streams: Tensor, sources: Tensor, grey: Tensor, floors: Tensor
) -> None:
    """Fills the first rows of a batch with (255 x + whole noise) / 255.

    Args:
        out: float32 (at least rows, ...), contiguous.
        void: bool (at least rows,); becomes true where a word does not tell its number.
        streams: int64 (rows, 4), contiguous: two words of key, the counter's first word before the
            first draw, and its third.
        sources: int64 (rows,), which image each row is of.
        grey: float32 (images, size), contiguous: 255 x.
        floors: int64 (an even number,), the bits of `cell_floors`.

    Source: Philox4x64-10, Salmon et al. 2011, section 4.1, as in NumPy.
    """
    rows, size = len(streams), grey.shape[1]
    if not rows:
        return
    last, offset = len(floors) - 1, -(len(floors) // 2)
    grid = (rows, triton.cdiv(size, 4 * BLOCK))
    # Triton starts programs on the thread's current device, which is GPU 0 in a new thread.
    with torch.cuda.device_of(out):
        _fill[grid](
            out, void.view(torch.uint8), streams, sources, grey, floors, offset, size, last,
            STEPS=last.bit_length(), BLOCK=BLOCK,
        )  # fmt: skip
