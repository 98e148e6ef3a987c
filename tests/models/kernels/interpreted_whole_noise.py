"""The kernel of whole-number noise, in Triton's interpreter: see test_interpreted.py."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffsmooth.models.kernels.whole_noise import fill_noisy
from diffsmooth.models.smoothing.integer_noise import IntegerNoise
from diffsmooth.models.smoothing.integers_on_device import (
    by_kernel,
    by_operations,
    counters_of,
    streams_of,
)
from diffsmooth.models.smoothing.noise import NoiseKey, Votes
from diffsmooth.models.smoothing.normal_cells import cell_floors

KEY = NoiseKey(0, "certify", "cifar10", "test", 7)
WORDS = st.integers(0, 2**64 - 1)


def images_of(count: int, shape: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(256, shape, generator=generator) / 255 for _ in range(count)]


def filled(votes: Sequence[Votes], images: Sequence[Tensor], level: float) -> tuple[Tensor, Tensor]:
    grey = torch.stack([torch.round(255 * image) for image in images])
    streams, sources = streams_of(votes, counters_of(images[0].numel()))
    noisy = torch.full((len(streams), *images[0].shape), torch.nan)
    void = torch.zeros(len(streams), dtype=torch.bool)
    by_kernel(noisy, void, streams, sources, grey, level)
    return noisy, void


@pytest.mark.parametrize(
    ("shape", "level"),
    [((1, 2, 3), 0.25), ((3, 5, 5), 1.0), ((3, 16, 16), 0.5), ((3, 7, 47), 0.001)],
)
def test_the_kernels_images_are_numpys(shape: tuple[int, ...], level: float) -> None:
    votes = [Votes(KEY, 1, 7, 3), Votes(KEY._replace(image=9), 3, 2**33, 2), Votes(KEY, 1, 0, 1)]
    images = images_of(3, shape)
    noisy, void = filled(votes, images, level)
    expected = IntegerNoise(torch.device("cpu")).noisy(votes, images, level, 6)
    assert torch.equal(noisy, expected.images)
    assert not void.any()


@settings(max_examples=6)
@given(key=st.tuples(WORDS, WORDS), first=WORDS, stage=WORDS, size=st.integers(1, 40))
def test_any_stream_is_that_of_the_operations(
    key: tuple[int, int], first: int, stage: int, size: int
) -> None:
    streams = torch.from_numpy(np.array([[*key, first, stage]], dtype=np.uint64).view(np.int64))
    sources, grey = torch.zeros(1, dtype=torch.int64), torch.full((1, 1, 1, size), 128.0)
    results = []
    for fill in (by_kernel, by_operations):
        noisy, void = torch.empty(1, 1, 1, size), torch.zeros(1, dtype=torch.bool)
        fill(noisy, void, streams, sources, grey, 0.5)
        results.append(noisy)
    assert torch.equal(*results)


def test_a_word_that_equals_a_floor_is_void_wherever_it_stands() -> None:
    """Floors are put where words are: each of the words of a vote in turn, and none."""
    votes, size = [Votes(KEY, 0, 0, 4)], 11
    streams, sources = streams_of(votes, counters_of(size))
    generator = np.random.Philox(key=KEY.words, counter=[0, 0, 0, 0])
    words = generator.random_raw(4 * 4 * counters_of(size)).reshape(4, -1)
    grey = torch.zeros(1, size)
    ends = [0, 2**64 - 1]
    for row, column, told in [(0, 0, True), (1, 10, True), (2, 5, True), (3, 11, False)]:
        word = int(words[row, column])
        for floor, is_void in ((word, told), (word - 1, False), (word + 1, False)):
            floors = np.array(sorted([*ends, 2**63, floor]), dtype=np.uint64).view(np.int64)
            noisy, void = torch.empty(4, size), torch.zeros(4, dtype=torch.bool)
            fill_noisy(noisy, void, streams, sources, grey, torch.from_numpy(floors))
            assert void.tolist() == [is_void and at == row for at in range(4)]


def test_the_numbers_at_all_floors_by_bisection() -> None:
    """What the search finds is right where the floors are few or many."""
    for level in (0.0005, 0.01, 2.0):
        floors = cell_floors(level)
        noisy, _ = filled([Votes(KEY, 0, 0, 3)], [torch.zeros(1, 1, 50)], level)
        generator = np.random.Philox(key=KEY.words, counter=[0, 0, 0, 0])
        words = generator.random_raw(3 * 4 * counters_of(50)).reshape(3, -1)[:, :50]
        numbers = floors.searchsorted(words) - len(floors) // 2
        expected = numbers.astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(noisy.numpy().reshape(3, 50), expected)
