import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from diffsmooth.models.noise import BLOCK, NoiseKey, NoiseStream, VoteNoise

KEY = NoiseKey(0, "certify", "fashion_mnist", "test", 7)


def draw(key: NoiseKey, stage: int, count: int, shape: tuple[int, ...] = (1, 2, 2)) -> np.ndarray:
    return NoiseStream(key, stage, shape).take(count).numpy()


def test_pinned_values() -> None:
    """NumPy may change its streams between versions: results would change, so this must fail."""
    first = draw(KEY, 0, 2)[:, 0, 0]
    second_block = draw(KEY, 1, BLOCK + 1)[BLOCK, 0, 0]
    np.testing.assert_array_equal(first, np.float32(PINNED_FIRST))
    np.testing.assert_array_equal(second_block, np.float32(PINNED_SECOND_BLOCK))


PINNED_FIRST = [[0.9367949366569519, -0.314436674118042], [0.7843387722969055, 1.0798449516296387]]
PINNED_SECOND_BLOCK = [-1.5479751825332642, -1.0327178239822388]


@given(st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=6))
def test_the_draws_do_not_depend_on_how_they_are_taken(sizes: list[int]) -> None:
    stream = NoiseStream(KEY, 0, (1, 2, 2))
    pieces = torch.cat([stream.take(size) for size in sizes]).numpy()
    np.testing.assert_array_equal(pieces, draw(KEY, 0, sum(sizes)))


@pytest.mark.parametrize(
    "other",
    [
        KEY._replace(seed=1),
        KEY._replace(purpose="predict"),
        KEY._replace(dataset="cifar10"),
        KEY._replace(split="train"),
        KEY._replace(image=8),
    ],
)
def test_other_keys_and_stages_have_other_streams(other: NoiseKey) -> None:
    mine = set(draw(KEY, 0, 200).ravel().tolist())
    for theirs in (draw(other, 0, 200), draw(KEY, 1, 200)):
        # 23-bit mantissas coincide by chance now and then; a shared stream would coincide wholly.
        assert len(mine & set(theirs.ravel().tolist())) < 20


def test_lanes_are_streams_of_their_own_in_step_with_the_votes() -> None:
    noise = VoteNoise(KEY, 0, (1, 2, 2), draws=3)
    own, runs = [], ([], [])
    for count in (5, 40, 3):
        own.append(noise.take(count))
        for run in range(2):
            runs[run].append(noise.draws_of(run))
    np.testing.assert_array_equal(torch.cat(own).numpy(), draw(KEY, 0, 48))
    draws = torch.stack([torch.cat(parts, dim=1) for parts in runs]).numpy()
    assert draws.shape == (2, 3, 48, 1, 2, 2)
    for run in range(2):
        for i in range(3):
            lane = NoiseStream(KEY, 0, (1, 2, 2), lane=1 + 3 * run + i)
            np.testing.assert_array_equal(draws[run, i], lane.take(48).numpy())
    everything = np.concatenate([torch.cat(own).numpy().ravel(), draws.ravel()])
    assert len(np.unique(everything)) > 0.99 * len(everything)
    assert VoteNoise(KEY, 0, (1, 2, 2)).draws_of(0) is None


def test_draws_are_standard_normal_and_neighbours_uncorrelated() -> None:
    """Votes 1 .. 40 apart, across the blocks' borders, at every shift of the pixels."""
    shape = (1, 8, 8)
    votes = draw(KEY, 0, 2000, shape).reshape(2000, 64).astype(np.float64)
    assert kstest(votes.ravel(), "norm").pvalue > 1e-4
    spectrum = np.fft.rfft2(votes, s=(4096, 128))
    correlation = np.fft.irfft2(np.abs(spectrum) ** 2, s=(4096, 128)) / votes.size
    correlation[0, 0] = 0.0
    # Each entry has a standard deviation of at most 1 / sqrt(128000) = 0.0028.
    lags = np.concatenate([correlation[: BLOCK + 8], correlation[-BLOCK - 8 :]])
    assert np.abs(lags).max() < 6 * 0.0028
