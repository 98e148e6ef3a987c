"""Noise by whole numbers: exact in distribution, addressed, and the same on every device."""

from bisect import bisect_right

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from torch import Tensor, nn

from diffsmooth.models import IdentityPurifier, LocalSmoothing
from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.integer_noise import (
    CHUNK,
    IntegerNoise,
    guide_of,
    on_grid,
    whole_numbers,
)
from diffsmooth.models.smoothing.integers_on_device import noisy_on_device
from diffsmooth.models.smoothing.noise import NoiseKey, NoiseSource, Noisy, NumpyNoise, Votes
from diffsmooth.models.smoothing.noise_sources import (
    noise_source,
    source_word,
    stored_name,
)
from diffsmooth.models.smoothing.normal_cells import cell_floors
from diffsmooth.models.smoothing.packing import Task
from diffsmooth.models.smoothing.philox import philox4x64
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.runs.line import from_line, to_line
from diffsmooth.stats import (
    ABSTAIN,
    Certificate,
    FixedSampleSize,
    ImageRecord,
    MajorityVote,
    Plan,
    lower_confidence_bound,
)
from diffsmooth.stats.certificate import NO_CLASS
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.group_sequential import GroupSequential
from diffsmooth.stats.results import kind_of_noise

KEY = NoiseKey(0, "certify", "fashion_mnist", "test", 7)
CPU = torch.device("cpu")
SOURCE = IntegerNoise(CPU)
WORDS = st.integers(0, 2**64 - 1)


def grey(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def whole(noisy: Tensor, image: Tensor) -> np.ndarray:
    """255 (noisy - image), which must be whole numbers."""
    numbers = 255 * noisy.double() - (255 * image.double()).round()
    assert (numbers - numbers.round()).abs().max() < 1e-3
    return numbers.round().numpy().astype(int)


@given(counter=st.tuples(WORDS, WORDS, WORDS, WORDS), key=st.tuples(WORDS, WORDS))
def test_torchs_words_are_numpys(counter: tuple[int, ...], key: tuple[int, ...]) -> None:
    before = [(counter[0] - 1) % 2**64, *counter[1:]]  # NumPy counts first, and may borrow
    if counter[0] == 0:
        carry = sum(word << (64 * i) for i, word in enumerate(counter)) - 1
        before = [carry % 2**256 >> (64 * i) & (2**64 - 1) for i in range(4)]
    theirs = np.random.Philox(
        key=np.array(key, dtype=np.uint64), counter=np.array(before, dtype=np.uint64)
    ).random_raw(4)
    tensors = [torch.from_numpy(np.array(word, dtype=np.uint64).view(np.int64))[None]
               for word in (*counter, *key)]  # fmt: skip
    c0, c1, c2, c3, k0, k1 = tensors
    ours = torch.cat(philox4x64((c0, c1, c2, c3), (k0, k1)))
    np.testing.assert_array_equal(ours.numpy().view(np.uint64), theirs)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.001])
def test_every_word_gives_the_least_number_with_a_larger_probability(level: float) -> None:
    """All floors, what lies beside them, and random words, against bisection in whole numbers."""
    guide = guide_of(level)
    floors = [int(floor) for floor in cell_floors(level)]
    near = {(floor + step) % 2**64 for floor in floors for step in (-1, 0, 1)}
    rng = np.random.default_rng(0)
    words = np.array([*near, *rng.integers(0, 2**64, 5000, dtype=np.uint64)], dtype=np.uint64)
    out = np.empty(len(words), dtype=np.float32)
    void = whole_numbers(words, guide, out)
    largest = len(floors) // 2 - 1
    told = [int(word) not in set(floors) for word in words]
    np.testing.assert_array_equal(void, np.flatnonzero(~np.array(told)))
    for word, number, tells in zip(words, out, told, strict=True):
        if tells:
            # floors[place - 1] < word < floors[place]: u < F(k) for this k, and for no smaller.
            assert number == bisect_right(floors, int(word)) - largest - 1
    assert 0.95 * largest < abs(out[told]).max() <= largest  # floors of the far tail are dense


def test_a_vote_is_image_plus_whole_numbers_over_255() -> None:
    image = grey((3, 8, 8))
    noisy, void = SOURCE.noisy([Votes(KEY, 0, 0, 20)], [image], 0.25, 25)
    assert void is None
    assert noisy.dtype == torch.float32
    assert (noisy[20:] == 0).all()
    numbers = whole(noisy[:20], image)
    again = (torch.from_numpy(numbers) + (255 * image).round()).float() / 255
    assert torch.equal(again, noisy[:20])  # f is asked on the grid, to the last bit
    other = whole(SOURCE.noisy([Votes(KEY, 0, 0, 20)], [grey((3, 8, 8), 1)], 0.25, 20).images,
                  grey((3, 8, 8), 1))  # fmt: skip
    np.testing.assert_array_equal(numbers, other)  # the noise does not see the image


def test_pinned_values() -> None:
    """Whoever changes the numbers changes the name: manifests tell runs apart by it."""
    assert SOURCE.name == "integer-philox4x64, floors of 64 bits"
    image = torch.zeros(1, 3, 3)
    noisy = SOURCE.noisy([Votes(KEY, 1, 5, 2)], [image], 0.5, 2).images
    np.testing.assert_array_equal(whole(noisy, image).reshape(2, 9), PINNED)


PINNED = [
    [-79, 35, 115, -266, -213, 178, 104, -191, -48],
    [138, 9, -54, -252, 121, -172, -49, 106, -62],
]


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 8, 8), (3, 5, 5), (3, 64, 64)])
def test_the_draws_do_not_depend_on_how_they_are_taken_nor_on_the_device(
    shape: tuple[int, ...],
) -> None:
    image, other = grey(shape), grey(shape, 1)
    count = 2 + CHUNK // image.numel() if image.numel() < 1000 else 5
    own = SOURCE.noisy([Votes(KEY, 2, 0, count)], [image], 0.25, count).images
    key = KEY._replace(image=8)
    votes = [Votes(KEY, 2, 1, 3), Votes(key, 0, 4, 2), Votes(KEY, 2, 0, 1)]
    mixed = SOURCE.noisy(votes, [image, other, image], 0.25, 7)
    assert torch.equal(mixed.images[:3], own[1:4])
    assert torch.equal(mixed.images[5:6], own[:1])
    greys = [(255 * one).round().numpy() for one in (image, other, image)]
    on_device = noisy_on_device(votes, greys, 0.25, 7, CPU)
    assert torch.equal(mixed.images, on_device.images)
    assert on_device.void is not None
    assert not on_device.void.any()


@pytest.mark.gpu
@pytest.mark.parametrize("level", [0.25, 1.0])
def test_a_gpus_noisy_images_are_the_cpus(level: float) -> None:
    votes = [Votes(KEY, 0, 3, 200), Votes(KEY._replace(image=8), 2, 0, 50)]
    images = [grey((3, 32, 32)), grey((3, 32, 32), 1)]
    gpu = IntegerNoise(torch.device("cuda")).noisy(votes, images, level, 256)
    cpu = SOURCE.noisy(votes, images, level, 256)
    assert torch.equal(gpu.images.cpu(), cpu.images)
    assert gpu.void is not None
    assert not gpu.void.any()


def test_other_keys_stages_and_levels_are_other_noise() -> None:
    image = torch.zeros(1, 16, 16)

    def drawn(key: NoiseKey = KEY, stage: int = 0, first: int = 0, level: float = 0.25) -> Tensor:
        return SOURCE.noisy([Votes(key, stage, first, 40)], [image], level, 40).images.flatten()

    streams = [drawn(), drawn(stage=1), drawn(first=40), drawn(KEY._replace(image=8)),
               drawn(KEY._replace(seed=1)), drawn(KEY._replace(purpose="predict"))]  # fmt: skip
    correlations = torch.corrcoef(torch.stack(streams))
    off = correlations - torch.eye(len(streams))
    assert off.abs().max() < 5 / streams[0].numel() ** 0.5
    # A vote is no shifted copy of its neighbour, within a vote neither.
    rows = drawn().view(40, -1)
    for shift in range(1, 9):
        both = [rows[:-1, shift:].flatten(), rows[1:, :-shift].flatten()]
        pairs = torch.corrcoef(torch.stack(both))
        assert abs(pairs[0, 1]) < 5 / rows[:-1, shift:].numel() ** 0.5
    assert drawn(level=0.5).std() / drawn().std() == pytest.approx(2, rel=0.01)  # the same words


def test_every_cell_has_its_share() -> None:
    """Chi-square over all cells, those of few expected pooled with their neighbours outwards."""
    level, image = 0.5, torch.zeros(3, 32, 32)
    floors = cell_floors(level)
    largest = len(floors) // 2 - 1
    share = np.diff(floors.astype(float)) / 2.0**64
    counts = np.zeros(2 * largest + 1, dtype=int)
    rounds, votes = 8, 400
    for i in range(rounds):
        noisy = SOURCE.noisy([Votes(KEY._replace(image=i), 0, 0, votes)], [image], level, votes)
        counts += np.bincount(whole(noisy.images, image).ravel() + largest, minlength=len(counts))
    total = counts.sum()
    assert total == rounds * votes * 3072
    expected = share * total
    kept = np.flatnonzero(expected >= 10)
    first, last = kept[0], kept[-1]

    def pooled(values: np.ndarray) -> np.ndarray:
        ends = values[: first + 1].sum(), values[last:].sum()
        return np.array([ends[0], *values[first + 1 : last], ends[1]])

    assert last - first > 1000
    test = chisquare(pooled(counts), pooled(expected) * total / pooled(expected).sum())
    assert test.pvalue > 1e-4
    # And the sum of what lies beyond 4 standard deviations.
    far = np.abs(np.arange(-largest, largest + 1)) > 4 * 255 * level
    assert binomtest(int(counts[far].sum()), int(total), float(share[far].sum())).pvalue > 1e-4


class Void(IntegerNoise):
    """Says that the first votes of each batch's images did not tell."""

    def __init__(self, first: int) -> None:
        super().__init__(CPU)
        self.first = first

    def noisy(self, votes, images, level, rows):  # type: ignore[no-untyped-def]
        made = super().noisy(votes, images, level, rows)
        void, start = torch.zeros(rows, dtype=torch.bool), 0
        for some in votes:
            numbers = torch.arange(some.first, some.first + some.count)
            void[start : start + some.count] = numbers < self.first
            start += some.count
        return Noisy(made.images, void)


class Sure(nn.Module):
    """Class 1, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3) + 0 * x.flatten(1)[:, :1]


def vote_function(network: nn.Module, shape: tuple[int, int, int], batch: int = 16) -> VoteFunction:
    local = LocalSmoothing(network, 1, 0.0, shape)
    return VoteFunction(IdentityPurifier(), local, 0.5, 3, batch)


def certified(
    source: NoiseSource, plan: Plan, f: VoteFunction | None = None, image: Tensor | None = None
) -> Certificate:
    with VoteEngine(f or vote_function(Sure(), (1, 4, 4)), plan, source) as engine:
        engine.submit(Task(grey((1, 4, 4)) if image is None else image, KEY))
        (finished,) = engine.drain()
    assert finished.error is None
    assert finished.certificate is not None
    return finished.certificate


@pytest.mark.parametrize(
    "plan",
    [
        FixedSampleSize(10, 40, 0.01),
        GroupSequential(10, 40, 0.01, radii=(0.5,), first_look=20),
        GroupSequential(10, 40, 0.01, tolerance=0.1, first_look=20),
    ],
)
def test_void_votes_are_cast_for_no_class(plan: Plan) -> None:
    plain = certified(SOURCE, plan)
    assert (plain.selection_counts, plain.estimation_counts) == (((1, 10),), ((1, plain.n),))
    found = certified(Void(3), plan)
    looks = len(found.looks)
    assert found.selection_counts == ((NO_CLASS, 3), (1, 7))
    assert found.estimation_counts == ((NO_CLASS, 3 * looks), (1, found.n - 3 * looks))
    assert (found.n0, found.votes) == (10, 10 + found.n)
    assert found.looks[-1] == (found.n, found.n - 3 * looks)
    bounds = [lower_confidence_bound(look.successes, look.n, level)
              for look, level in zip(found.looks, plan.levels, strict=False)]  # fmt: skip
    assert found.p_lower == max(bounds) < 1
    record = ImageRecord(7, 1, 0.5, found, "", None)
    assert from_line(to_line(record)).certificate == found


def test_a_void_selection_certifies_nothing() -> None:
    found = certified(Void(10**6), FixedSampleSize(10, 40, 0.01))
    assert (found.prediction, found.radius, found.status) == (ABSTAIN, 0.0, "abstained")
    assert found.estimation_counts == ((NO_CLASS, 40),)


def test_predict_abstains_where_a_vote_is_void() -> None:
    assert certified(SOURCE, MajorityVote(100, 0.01)).prediction == 1
    found = certified(Void(1), MajorityVote(100, 0.01))
    assert (found.prediction, found.status) == (ABSTAIN, "abstained")
    assert found.estimation_counts == ((NO_CLASS, 1), (1, 99))
    record = ImageRecord(7, 1, 0.5, found, "", None)
    assert from_line(to_line(record)).certificate == found


def test_a_word_that_equals_a_floor_makes_its_vote_void(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = cell_floors(0.5)[1000]

    class Philox(np.random.Philox):
        def random_raw(self, size: int) -> np.ndarray:  # type: ignore[override]
            words = super().random_raw(size)
            words[[5, 21]] = floor  # the first of a vote of 16, and padding
            return words

    monkeypatch.setattr(np.random, "Philox", Philox)
    image = grey((1, 3, 5))  # 15 words, 16 drawn
    noisy = SOURCE.noisy([Votes(KEY, 0, 0, 3)], [image], 0.5, 4)
    assert noisy.void is not None
    assert noisy.void.tolist() == [True, True, False, False]
    image = grey((1, 2, 5))  # 10 words, 12 drawn: places 5, and 9 of the second
    noisy = SOURCE.noisy([Votes(KEY, 0, 0, 3)], [image], 0.5, 4)
    assert noisy.void is not None
    assert noisy.void.tolist() == [True, True, False, False]
    image = grey((1, 1, 5))  # 5 words, 8 drawn: places 5 (padding), 5 of the third (padding)
    assert SOURCE.noisy([Votes(KEY, 0, 0, 3)], [image], 0.5, 4).void is None


def test_images_off_the_grid_are_refused() -> None:
    image = grey((1, 4, 4))
    assert on_grid(image)
    assert on_grid(torch.arange(256).double().mul(1 / 255).float())  # however it was divided
    assert on_grid(torch.arange(256).float() * torch.tensor(1 / 255))
    assert not on_grid(image + 1e-5)
    assert not on_grid(torch.arange(65536).float() / 65535)
    f = vote_function(Sure(), (1, 4, 4))
    with VoteEngine(f, FixedSampleSize(10, 40, 0.01), SOURCE) as engine:
        engine.submit(Task(image.clamp(max=0.9) + 1e-5, KEY))
        (finished,) = engine.drain()
    assert "image 7 is not of 8 bits" in str(finished.error)
    assert "noise float takes it" in str(finished.error)


class LowBits(nn.Module):
    """Class 1 where a pixel with |z| < 2^-10 is no multiple of 2^-32."""

    def forward(self, z: Tensor) -> Tensor:
        scaled = z.double() * 2.0**32
        odd = ((z.abs() < 2.0**-10) & (scaled != scaled.round())).flatten(1).any(dim=1)
        return torch.stack([~odd, odd, torch.zeros_like(odd)], dim=1).float()


@pytest.mark.parametrize("word", ["float", "device", "integer"])
def test_certificates_contradict_each_other_but_with_exact_noise(word: str) -> None:
    """Source: Voracek & Hein 2023; this f looks at the last bits of image + noise in float32."""
    f = vote_function(LowBits(), (3, 32, 32), batch=100)
    source, plan = noise_source(word, CPU), FixedSampleSize(100, 2000, 0.001)  # type: ignore[arg-type]
    black, dark = torch.zeros(3, 32, 32), torch.full((3, 32, 32), 1 / 255)
    one, other = (certified(source, plan, f, image) for image in (black, dark))
    distance = float((dark - black).norm())
    assert distance < 0.22
    contradictory = (
        ABSTAIN not in (one.prediction, other.prediction)
        and one.prediction != other.prediction
        and max(one.radius, other.radius) > distance
    )
    assert contradictory == (word != "integer")


def test_sources_are_known_by_their_stored_names() -> None:
    for word in ("integer", "float", "device"):
        name = stored_name(word)  # type: ignore[arg-type]
        assert source_word(name) == word
        assert noise_source(word, CPU).name == name  # type: ignore[arg-type]
        assert (kind_of_noise(name) == "exact") == (word == "integer")
    with pytest.raises(UserError, match="'x' is not known to this version"):
        source_word("x")
    with pytest.raises(
        ValueError, match="noise must be auto, integer, float or device, got 'white'"
    ):
        stored_name("white")  # type: ignore[arg-type]


def test_a_random_purifiers_own_draws_are_floats() -> None:
    votes = [Votes(KEY, 0, 3, 4)]
    mine, floats = (one.draw(votes, 2, 5, (1, 2, 2)) for one in (SOURCE, NumpyNoise()))
    assert torch.equal(mine, floats)
