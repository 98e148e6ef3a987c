"""Noise, then rounding: the distribution over the levels, against SciPy's normal."""

import numpy as np
import torch
from scipy.stats import chisquare, norm

from diffsmooth.models.smoothing.noise import NoiseKey, Votes
from diffsmooth.models.smoothing.rounded_noise import RoundedNoise

KEY = NoiseKey(0, "attacked", "fashion_mnist", "test", 7)


def levels_of(image: torch.Tensor, level: float, votes: Votes, rows: int) -> np.ndarray:
    noisy = RoundedNoise().noisy([votes], [image], level, rows).images.numpy()
    levels = np.rint(255 * noisy.astype(np.float64))
    np.testing.assert_array_equal(noisy, np.float32(levels) / np.float32(255))
    return levels


def test_every_level_has_the_normal_s_share_of_its_cell() -> None:
    """Of an image between two levels: 255 times 0.3, and a quarter more."""
    image = torch.full((1, 20, 20), (76 + 0.25) / 255)
    drawn = levels_of(image, 2 / 255, Votes(KEY, 1, 5, 200), 200).ravel()
    borders = np.arange(70, 83) + 0.5
    counts = np.histogram(drawn, [-np.inf, *borders, np.inf])[0]
    shares = np.diff([0, *norm.cdf(borders, 76.25, 2), 1])
    assert chisquare(counts, shares * drawn.size).pvalue > 0.01


def test_it_is_the_vote_s_own_and_padding_is_zero() -> None:
    image = torch.rand((1, 3, 3), generator=torch.Generator().manual_seed(0))
    all_votes = levels_of(image, 0.5, Votes(KEY, 1, 0, 40), 40)
    some = levels_of(image, 0.5, Votes(KEY, 1, 30, 5), 8)
    np.testing.assert_array_equal(some[:5], all_votes[30:35])
    assert not some[5:].any()
    assert len(np.unique(all_votes.reshape(40, -1), axis=0)) == 40
    for other in (Votes(KEY, 0, 0, 40), Votes(KEY._replace(purpose="confirm"), 1, 0, 40)):
        assert (levels_of(image, 0.5, other, 40) != all_votes).mean() > 0.9


def test_neighbouring_votes_are_not_correlated() -> None:
    image = torch.full((1, 30, 30), 128 / 255)
    votes = levels_of(image, 0.25, Votes(KEY, 0, 0, 50), 50).reshape(50, -1) - 128
    products = (votes[1:] * votes[:-1]).mean(axis=1) / (255 * 0.25) ** 2
    assert abs(products.mean()) < 4 / np.sqrt(49 * 900)
