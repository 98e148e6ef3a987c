"""Noise that is made on a GPU, or for one, beside that of a CPU; and the votes that it gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gpu_device import ON_CPU, device, voting
from scipy.stats import chi2_contingency
from torch import Tensor

from diffsmooth.lit.data import load_images
from diffsmooth.models.smoothing.engine import Task, VoteEngine
from diffsmooth.models.smoothing.integer_noise import IntegerNoise
from diffsmooth.models.smoothing.noise import DeviceNoise, NoiseKey, NoiseSource, NumpyNoise, Votes
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.workloads import WORKLOADS
from diffsmooth.stats import MajorityVote

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
KEY = NoiseKey(0, "certify", "fashion_mnist", "test", 7)
VOTES = [Votes(KEY, 0, 3, 200), Votes(KEY._replace(image=8), 2, 0, 50)]
BATCH, CAST = (16, 64) if ON_CPU else (256, 4096)


def grey(seed: int) -> Tensor:
    levels = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


IMAGES = [grey(0), grey(1)]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_new_thread_fills_the_second_gpu() -> None:
    second = torch.device("cuda:1")
    torch.zeros(1, device="cuda:0")  # in whose context the thread would begin
    theirs = IntegerNoise(CPU).noisy(VOTES, IMAGES, 0.25, 256)
    with ThreadPoolExecutor(1) as background:
        ours = background.submit(IntegerNoise(second).noisy, VOTES, IMAGES, 0.25, 256).result()
    assert torch.equal(ours.images.cpu(), theirs.images)


@pytest.mark.parametrize("level", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", [IntegerNoise, NumpyNoise])
def test_noisy_images_are_those_of_the_cpu_to_the_last_bit(
    kind: type[IntegerNoise | NumpyNoise], level: float
) -> None:
    theirs = kind(CPU).noisy(VOTES, IMAGES, level, 256)
    ours = kind(device()).noisy(VOTES, IMAGES, level, 256)
    assert torch.equal(ours.images.cpu(), theirs.images)
    assert ours.void is None or not ours.void.any()


def test_the_device_sources_draws_are_a_cpus_but_for_last_bits() -> None:
    theirs = DeviceNoise(CPU).draw(VOTES, 0, 256, (3, 32, 32))
    ours = DeviceNoise(device()).draw(VOTES, 0, 256, (3, 32, 32)).cpu()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def counted(f: VoteFunction, source: NoiseSource, image: Tensor, votes: int = CAST) -> np.ndarray:
    """Votes a class."""
    with VoteEngine(f, MajorityVote(votes), source) as engine:
        engine.submit(Task(image, KEY))
        (finished,) = engine.drain()
    assert finished.certificate is not None, finished.error
    counts = np.zeros(f.num_classes, dtype=int)
    for label, count in finished.certificate.estimation_counts:
        counts[label] += count
    return counts


def near_tie() -> Tensor:
    """Two images of the shipped sample, one over the other: votes for more than one class."""
    images = load_images("fashion_mnist_sample", "data")
    levels = (255 * (0.5 * images[0].image + 0.5 * images[1].image)).round()
    return levels / 255


@pytest.mark.parametrize("kind", [IntegerNoise, NumpyNoise, DeviceNoise])
def test_votes_do_not_depend_on_where_the_noise_is_made(
    kind: type[IntegerNoise | NumpyNoise | DeviceNoise],
) -> None:
    f, image = voting("cohen", "float32", BATCH), near_tie()

    class OnTheCpu(kind):  # type: ignore[misc, valid-type]
        """Made there, then copied."""

    theirs, ours = counted(f, OnTheCpu(CPU), image), counted(f, kind(device()), image)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.sum() == CAST


def test_all_sources_have_one_distribution() -> None:
    f, image = voting("cohen", "float32", BATCH), near_tie()
    found = np.stack([
        counted(f, source, image)
        for source in (NumpyNoise(CPU), IntegerNoise(device()), DeviceNoise(device()))
    ])  # fmt: skip
    common = found[:, found.sum(axis=0) >= 30]
    if common.shape[1] > 1:
        assert chi2_contingency(common).pvalue > 1e-4


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_votes_are_those_of_a_cpu_but_for_near_ties(precision: str) -> None:
    """The float source's noise is the same: what differs are the last bits of the networks."""
    image, few = near_tie(), min(CAST, 512)
    ours = counted(voting("cohen", precision, 64), NumpyNoise(device()), image, few)
    cpu = WORKLOADS["cohen"].f(64, "float32", CPU)
    moved = np.abs(ours - counted(cpu, NumpyNoise(CPU), image, few)).sum() / 2
    assert moved <= {"float32": 0.002, "bf16": 0.02}[precision] * few
