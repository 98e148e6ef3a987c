import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest, norm, rayleigh

from diffsmooth.models.smoothing.noise import (
    BLOCK,
    DeviceNoise,
    NoiseKey,
    NoiseSource,
    NumpyNoise,
    Votes,
    draw_noise,
)
from diffsmooth.models.smoothing.philox import normals, philox4x32

KEY = NoiseKey(0, "certify", "fashion_mnist", "test", 7)
SHAPE = (1, 2, 3)  # not a multiple of the words of a counter
SOURCES = [NumpyNoise(), DeviceNoise(torch.device("cpu"))]
every_source = pytest.mark.parametrize("source", SOURCES, ids=["numpy", "device"])


def draw(
    source: NoiseSource,
    key: NoiseKey = KEY,
    stage: int = 0,
    count: int = 200,
    lane: int = 0,
    shape: tuple[int, ...] = SHAPE,
) -> np.ndarray:
    return source.draw([Votes(key, stage, 0, count)], lane, count, shape).numpy()


def test_pinned_values() -> None:
    """NumPy may change its streams between versions: results would change, so this must fail."""
    first = draw_noise(KEY, 2, (1, 2, 2))[:, 0, 0].numpy()
    second_block = draw_noise(KEY, BLOCK + 1, (1, 2, 2), stage=1)[BLOCK, 0, 0].numpy()
    np.testing.assert_array_equal(first, np.float32(PINNED_FIRST))
    np.testing.assert_array_equal(second_block, np.float32(PINNED_SECOND_BLOCK))


PINNED_FIRST = [[0.9367949366569519, -0.314436674118042], [0.7843387722969055, 1.0798449516296387]]
PINNED_SECOND_BLOCK = [-1.5479751825332642, -1.0327178239822388]


def test_pinned_values_of_the_device_source() -> None:
    """But for the last bits of logarithms and cosines, on every device."""
    drawn = SOURCES[1].draw([Votes(KEY, 1, 5, 1)], 2, 1, (1, 3, 3))
    torch.testing.assert_close(drawn.flatten(), torch.tensor(PINNED_DEVICE), rtol=1e-5, atol=1e-6)
    # Whoever changes the values changes the name: manifests tell runs apart by it.
    assert SOURCES[1].name == "torch-philox4x32, lengths of 64 bits"


PINNED_DEVICE = [
    -0.41123608, -0.10974411, -0.15027092, -0.22020383, -0.96114153, -0.07103751, 0.01124922,
    0.94556916, -0.75162673,
]  # fmt: skip


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpys_integers_are_the_noise_of_pythons(kind: type) -> None:
    key = KEY._replace(seed=kind(KEY.seed), image=kind(KEY.image))
    for source in SOURCES:
        np.testing.assert_array_equal(draw(source, key), draw(source))
    with pytest.raises(TypeError):
        draw(SOURCES[0], KEY._replace(image=7.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_its_authors_test_vectors(counter: str, key: str, expected: str) -> None:
    """The known answers of Random123, for philox4x32-10."""
    words = [torch.tensor([int(word, 16)]) for word in (counter + " " + key).split()]
    output = philox4x32(tuple(words[:4]), tuple(words[4:]))  # type: ignore[arg-type]
    assert [f"{int(word):08x}" for word in output] == expected.split()


@every_source
@given(sizes=st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=6))
def test_the_draws_do_not_depend_on_how_they_are_taken(
    source: NoiseSource, sizes: list[int]
) -> None:
    """Neither on the batches of one image, nor on whose votes stand before and after."""
    other = KEY._replace(image=8)
    pieces, first = [], 0
    for size in sizes:
        votes = [Votes(other, 1, 3, 2), Votes(KEY, 0, first, size), Votes(other, 0, 0, 1)]
        drawn = source.draw(votes, 0, size + 5, SHAPE)
        assert (drawn[-2:] == 0).all()
        pieces.append(drawn[2:-3])
        first += size
    np.testing.assert_array_equal(torch.cat(pieces), draw(source, count=sum(sizes)))


@every_source
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
def test_other_keys_stages_and_lanes_have_other_streams(
    source: NoiseSource, other: NoiseKey
) -> None:
    mine = set(draw(source).ravel().tolist())
    for theirs in (draw(source, other), draw(source, stage=1), draw(source, lane=1)):
        # 23-bit mantissas coincide by chance now and then; a shared stream would coincide wholly.
        assert len(mine & set(theirs.ravel().tolist())) < 20
        both = np.corrcoef(draw(source).ravel(), theirs.ravel())[0, 1]
        assert abs(both) < 6 / np.sqrt(theirs.size)


def test_threads_change_nothing() -> None:
    votes = [Votes(KEY, 1, 5, 70), Votes(KEY._replace(image=8), 0, 0, 100)]
    alone, together = (NumpyNoise(threads=n).draw(votes, 2, 180, (3, 4, 4)) for n in (1, 3))
    assert torch.equal(alone, together)
    assert (alone[:170] != 0).all()


@every_source
def test_draws_are_standard_normal_and_neighbours_uncorrelated(source: NoiseSource) -> None:
    """Votes 1 .. 40 apart, across the blocks' borders, at every shift of the pixels."""
    shape = (1, 8, 8)
    votes = draw(source, count=2000, shape=shape).reshape(2000, 64).astype(np.float64)
    assert kstest(votes.ravel(), "norm").pvalue > 1e-4
    spectrum = np.fft.rfft2(votes, s=(4096, 128))
    correlation = np.fft.irfft2(np.abs(spectrum) ** 2, s=(4096, 128)) / votes.size
    correlation[0, 0] = 0.0
    # Each entry has a standard deviation of at most 1 / sqrt(128000) = 0.0028.
    lags = np.concatenate([correlation[: BLOCK + 8], correlation[-BLOCK - 8 :]])
    assert np.abs(lags).max() < 6 * 0.0028


@every_source
def test_the_bulk_is_normal_cell_by_cell(source: NoiseSource) -> None:
    draws = draw(source, count=2000, shape=(3, 16, 16)).ravel()
    borders = norm.ppf(np.arange(1, 400) / 400)
    counts = np.bincount(np.searchsorted(borders, draws), minlength=400)
    assert chisquare(counts).pvalue > 1e-4


def test_the_device_sources_tail_is_that_of_the_normal() -> None:
    """Planted: the words that give lengths of a probability p, from 1/2 to 2^-65."""
    p = np.array([2.0**-k for k in range(1, 65)] + [2.0**-65])
    words = [int(np.ceil(q * 2.0**64 - 0.5)) for q in p]
    high, low = (
        torch.tensor([part(word) for word in words])
        for part in (lambda word: word >> 32, lambda word: word & 0xFFFFFFFF)
    )
    along, across = normals(high, low, torch.zeros_like(low)).double().numpy().T
    exact = rayleigh.isf((np.array(words, dtype=object) + 0.5).astype(float) / 2.0**64)
    np.testing.assert_allclose(along, exact, rtol=1e-6)
    np.testing.assert_allclose(across, 0.0, atol=1e-6)
    assert along.max() > 9
    quarter = normals(high, low, torch.full_like(low, 2**30)).double().numpy()[:, 1]
    np.testing.assert_allclose(quarter, exact, rtol=1e-6)
    longest = normals(*torch.full((3, 1), 0xFFFFFFFF))
    assert (longest == 0).all()


def test_the_correlation_test_catches_shifted_copies() -> None:
    """The trap: with the votes' number in the counter's first word, votes are shifted copies."""
    key = np.array([1, 2], dtype=np.uint64)
    votes = np.stack(
        [
            np.random.Generator(
                np.random.Philox(key=key, counter=np.array([i, 0, 0, 0], dtype=np.uint64))
            ).standard_normal(64)
            for i in range(200)
        ]
    )
    best = max(np.corrcoef(votes[0, k:], votes[1, :-k])[0, 1] for k in range(1, 8))
    assert best > 0.99


@every_source
def test_noisy_images_are_the_image_plus_the_level_times_the_draws(source: NoiseSource) -> None:
    images = [torch.rand(SHAPE), torch.rand(SHAPE)]
    votes = [Votes(KEY, 0, 5, 40), Votes(KEY._replace(image=8), 1, 0, 3)]
    noisy, void = source.noisy(votes, images, 0.3, 50)
    assert void is None
    noise = source.draw(votes, 0, 50, SHAPE)
    expected = torch.cat([images[0] + 0.3 * noise[:40], images[1] + 0.3 * noise[40:43]])
    torch.testing.assert_close(noisy[:43], expected, rtol=0, atol=1e-6)
    assert (noisy[43:] == 0).all()
