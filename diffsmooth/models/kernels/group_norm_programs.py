"""What `group_norm.py` runs, one program of Triton for some channels of one image.

Pointers are to numbers of (image, pixel, channel), channels side by side. Capitals are known when
it is compiled: SIZE, channels of a group; USED, of a program, of LANES in a tile of ROWS pixels.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["pixels", "blocks"])
def whole(
    x, y, weight, bias, condition, row_of_condition, eps, channels, pixels, blocks,
    SIZE: tl.constexpr, USED: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
    FILM: tl.constexpr, SILU: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """Some groups of an image, from reading them once to the result."""
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)  # a batch may have more than 2^31 numbers
    x += image * channels * pixels
    y += image * channels * pixels
    lane = tl.arange(0, LANES)
    channel = program % blocks * USED + lane
    pixel = tl.arange(0, ROWS)
    used = (pixel < pixels)[:, None] & (lane < USED)[None, :]
    place = pixel[:, None] * channels + channel[None, :]
    if FULL:  # known when it is compiled: a tenth of the registers
        v = tl.load(x + place).to(tl.float32)
    else:
        v = tl.load(x + place, mask=used, other=0.0).to(tl.float32)
    count = (pixels * SIZE).to(tl.float32)
    pivot = _sums_of_groups(tl.sum(v, axis=0), LANES, SIZE) / count
    v -= pivot[None, :]
    if not FULL:
        v = tl.where(used, v, 0.0)
    shift = _sums_of_groups(tl.sum(v, axis=0), LANES, SIZE) / count
    squares = _sums_of_groups(tl.sum(v * v, axis=0), LANES, SIZE)
    deviation = tl.sqrt(tl.maximum(squares / count - shift * shift, 0.0) + eps)
    scale, offset = _affine(
        weight, bias, condition + image * row_of_condition, channels, channel, lane < USED, FILM
    )
    v = (v - shift[None, :]) * (scale / deviation)[None, :] + offset[None, :]
    if SILU:
        v = _silu(v)
    if FULL:
        tl.store(y + place, v)
    else:
        tl.store(y + place, v, mask=used)


@triton.jit(do_not_specialize=["pixels", "groups", "blocks", "chunks", "tiles"])
def moments(
    x, parts, channels, pixels, groups, blocks, chunks, tiles,
    SIZE: tl.constexpr, USED: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean, and sum of squared deviations from it, of some groups in some pixels of an image.

    About a pivot, the mean of the first tile: as that is among the numbers, squares about it are at
    most as many times larger than about the mean as there are tiles, and no more digits are lost.
    """
    program = tl.program_id(0)
    chunk = program // blocks % chunks
    image = (program // (blocks * chunks)).to(tl.int64)
    x += image * channels * pixels
    lane = tl.arange(0, LANES)
    channel = program % blocks * USED + lane
    pixel = chunk * tiles * ROWS + tl.arange(0, ROWS)
    used = (pixel < pixels)[:, None] & (lane < USED)[None, :]
    place = pixel[:, None] * channels + channel[None, :]
    v = tl.load(x + place, mask=used, other=0.0).to(tl.float32)
    left = pixels - chunk * tiles * ROWS
    count = (tl.minimum(left, ROWS) * SIZE).to(tl.float32)
    pivot = _sums_of_groups(tl.sum(v, axis=0), LANES, SIZE) / count
    total = tl.zeros([ROWS, LANES], dtype=tl.float32)
    squares = tl.zeros([ROWS, LANES], dtype=tl.float32)
    for tile in range(tiles):
        used = (pixel + tile * ROWS < pixels)[:, None] & (lane < USED)[None, :]
        v = tl.load(x + place + tile * ROWS * channels, mask=used, other=0.0).to(tl.float32)
        v = tl.where(used, v - pivot[None, :], 0.0)
        total += v
        squares += v * v
    count = (tl.minimum(left, tiles * ROWS) * SIZE).to(tl.float32)
    shift = _sums_of_groups(tl.sum(total, axis=0), LANES, SIZE) / count
    spread = _sums_of_groups(tl.sum(squares, axis=0), LANES, SIZE) - count * shift * shift
    to = parts + (image * chunks + chunk) * 2 * groups + channel // SIZE
    first = (lane < USED) & (lane % SIZE == 0)
    tl.store(to, pivot + shift, mask=first)
    tl.store(to + groups, tl.maximum(spread, 0.0), mask=first)


@triton.jit(do_not_specialize=["pixels", "groups", "blocks", "chunks", "tiles"])
def apply(
    x, y, parts, weight, bias, condition, row_of_condition, eps,
    channels, pixels, groups, blocks, chunks, tiles,
    SIZE: tl.constexpr, USED: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
    FILM: tl.constexpr, SILU: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """The result of some groups in some pixels, from the moments of all pixels."""
    program = tl.program_id(0)
    chunk = program // blocks % chunks
    image = (program // (blocks * chunks)).to(tl.int64)
    x += image * channels * pixels
    y += image * channels * pixels
    lane = tl.arange(0, LANES)
    channel = program % blocks * USED + lane
    # Chan's formula for all chunks at once; about the first mean, so that equal ones stay exact.
    each = tl.arange(0, CHUNKS)
    count = tl.minimum(tl.maximum(pixels - each * tiles * ROWS, 0), tiles * ROWS) * SIZE
    count = count.to(tl.float32)[:, None]
    total = (pixels * SIZE).to(tl.float32)
    of_image = parts + image * chunks * 2 * groups + channel // SIZE
    of_chunks = of_image[None, :] + each[:, None] * 2 * groups
    known = (each < chunks)[:, None] & (lane < USED)[None, :]
    first = tl.load(of_image, mask=lane < USED, other=0.0)
    from_first = tl.load(of_chunks, mask=known, other=0.0) - first[None, :]
    shift = tl.sum(count * from_first, axis=0) / total
    spread = tl.load(of_chunks + groups, mask=known, other=0.0)
    from_mean = from_first - shift[None, :]
    squares = tl.sum(spread + count * from_mean * from_mean, axis=0)
    mean = first + shift
    deviation = tl.sqrt(squares / total + eps)
    scale, offset = _affine(
        weight, bias, condition + image * row_of_condition, channels, channel, lane < USED, FILM
    )
    scale = scale / deviation
    pixel = chunk * tiles * ROWS + tl.arange(0, ROWS)
    place = pixel[:, None] * channels + channel[None, :]
    for tile in range(tiles):
        used = (pixel + tile * ROWS < pixels)[:, None] & (lane < USED)[None, :]
        here = place + tile * ROWS * channels
        v = tl.load(x + here, mask=used, other=0.0).to(tl.float32)
        v = (v - mean[None, :]) * scale[None, :] + offset[None, :]
        if SILU:
            v = _silu(v)
        tl.store(y + here, v, mask=used)  # rounded to the number format of y


@triton.jit
def _sums_of_groups(sums, LANES: tl.constexpr, SIZE: tl.constexpr):
    """From sums of channels (LANES,) to, for each channel, that of its group."""
    group = tl.arange(0, LANES) // SIZE
    # Chosen, not multiplied by 0: what is not finite stays in its group.
    same = group[:, None] == group[None, :]
    return tl.sum(tl.where(same, sums[:, None], 0.0), axis=0)


@triton.jit
def _affine(weight, bias, condition, channels, channel, used, FILM: tl.constexpr):
    """Scale and offset of each channel, with what the condition adds."""
    scale = tl.load(weight + channel, mask=used, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=used, other=0.0).to(tl.float32)
    if FILM:
        more = 1.0 + tl.load(condition + channel, mask=used, other=0.0).to(tl.float32)
        shift = tl.load(condition + channels + channel, mask=used, other=0.0).to(tl.float32)
        scale = scale * more
        offset = offset * more + shift
    return scale, offset


@triton.jit
def _silu(v):
    return v / (1.0 + tl.exp(-v))
