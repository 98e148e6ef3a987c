"""Whatever is packed with what: the votes are the same."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from single_image import certify_image
from torch import Tensor, nn

from diffsmooth.models import IdentityPurifier, LocalSmoothing
from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.local_smoothing import NetworkError
from diffsmooth.models.smoothing.noise import DeviceNoise, NoiseKey
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.packing import Finished, Task
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import Certificate, FixedSampleSize, MajorityVote, Plan
from diffsmooth.stats.group_sequential import GroupSequential

SHAPE = (1, 4, 4)
PLANS: list[Plan] = [
    FixedSampleSize(n0=33, n=207, alpha=0.01),
    GroupSequential(n0=10, n=400, alpha=0.05, first_look=20, radii=(0.0, 0.1, 0.3)),
    GroupSequential(n0=10, n=300, alpha=0.05, first_look=20, tolerance=0.2),
    GroupSequential(n0=10, n=300, alpha=0.05, first_look=20, label_aware=True),
    MajorityVote(n=120, alpha=0.01),
]


class Linear(nn.Module):
    """Three classes by one projection, in float64: no batch can change its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, 16, dtype=torch.float64))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(int((x.flatten(1) != 0).any(dim=1).sum()))
        score = (x.flatten(1).double() * self.weight).sum(dim=1)
        return torch.stack([score, -score, torch.full_like(score, 0.3)], dim=1)


def linear_model(batch: int, classifier: nn.Module | None = None) -> VoteFunction:
    local = LocalSmoothing(classifier or Linear(), m=1, sigma_local=0.0, image_shape=SHAPE)
    return VoteFunction(IdentityPurifier(), local, 0.25, 3, batch, copy=False)


def tasks(count: int) -> list[Task]:
    generator = torch.Generator().manual_seed(0)
    return [
        Task(torch.rand(SHAPE, generator=generator), NoiseKey(0, "certify", "d", "test", i), i % 3)
        for i in range(count)
    ]


def run(
    model: VoteFunction, plan: Plan, images: list[Task], in_flight: int = 256
) -> list[Finished]:
    finished = []
    with VoteEngine(model.f, plan, in_flight=in_flight) as engine:
        for task in images:
            engine.submit(task)
            while not engine.needs_task:
                finished += engine.step()
        finished += engine.drain()
        assert engine.is_idle
    return sorted(finished, key=lambda f: f.task.key.image)


def certificates(finished: list[Finished]) -> list[Certificate]:
    assert all(f.error is None for f in finished)
    return [f.certificate for f in finished if f.certificate is not None]


@pytest.mark.slow
@settings(max_examples=40)
@given(
    plan=st.sampled_from(PLANS),
    in_flight=st.sampled_from([1, 2, 3, 20]),
    batch=st.sampled_from([7, 64, 200]),
    order=st.permutations(range(9)),
)
def test_certificates_depend_on_no_packing_order_or_batch(
    plan: Plan, in_flight: int, batch: int, order: list[int]
) -> None:
    images = tasks(9)
    expected = [run_plan(linear_model(10), *task[:2], plan, task.label) for task in images]
    shuffled = [images[i] for i in order]
    assert certificates(run(linear_model(batch), plan, shuffled, in_flight)) == expected
    assert len({c.estimation_counts for c in expected}) > 3


@pytest.mark.parametrize("in_flight", [1, 2, 5, 16])
def test_networks_of_one_forward_shape_vote_the_same_at_any_place_in_a_batch(
    in_flight: int,
) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.Flatten(),
        nn.Linear(96, 3),
    ).eval()  # fmt: skip
    plan = PLANS[1]
    images = tasks(12)
    alone = [run_plan(linear_model(32, network), *task[:2], plan, task.label) for task in images]
    together = run(linear_model(32, network), plan, images, in_flight)
    assert certificates(together) == alone


class Louder(IdentityPurifier):
    """Wants more noise than sigma, as a denoiser whose schedule rounds up does."""

    def noise_level(self, sigma: float) -> float:
        return 1.5 * sigma


class Behind(nn.Module):
    """Class 0 where a weighted mean of the pixels is at most 0.1 above one half."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.double().flatten(1).mean(dim=1)
        return torch.stack([torch.full_like(mean, 0.6), mean, mean - 1], dim=1)


def test_votes_are_cast_at_the_noise_level_and_radii_are_of_sigma() -> None:
    """Radii of the noise level would overstate; votes at sigma would not be the purifier's."""
    local = LocalSmoothing(Behind(), m=1, sigma_local=0.0, image_shape=SHAPE)
    f = VoteFunction(Louder(), local, 0.25, 3, 100, copy=False)
    n, task = 20_000, Task(torch.full(SHAPE, 0.5), NoiseKey(0, "certify", "d", "test", 0), 0)
    with VoteEngine(f, FixedSampleSize(n0=100, n=n, alpha=0.01)) as engine:
        engine.submit(task)
        (certificate,) = certificates(list(engine.drain()))
    p = norm.cdf(0.1 * math.sqrt(16) / (1.5 * 0.25))  # the mean of 16 pixels
    share = dict(certificate.estimation_counts)[0] / n
    assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    assert certificate.sigma == 0.25
    assert certificate.radius == pytest.approx(0.25 * norm.ppf(certificate.p_lower), rel=1e-6)


def test_batches_are_full_while_images_are_left() -> None:
    classifier = Linear()
    finished: list[Finished] = []
    with VoteEngine(linear_model(64, classifier).f, PLANS[1]) as engine:
        classifier.seen.clear()  # the check of the start
        for task in tasks(60):
            engine.submit(task)
            while not engine.needs_task:
                finished += engine.step()
        batches = len(classifier.seen)
        finished += engine.drain()
    assert set(classifier.seen[:batches]) == {64}
    assert batches > 80
    assert sum(classifier.seen) == sum(c.votes for c in certificates(finished))


def test_the_fixed_plan_keeps_few_images_in_flight() -> None:
    """Older images come first: a crash loses little."""
    model = linear_model(10)
    with VoteEngine(model.f, FixedSampleSize(n0=20, n=500)) as engine:
        submitted, finished = 0, 0
        for task in tasks(10):
            engine.submit(task)
            submitted += 1
            while not engine.needs_task:
                finished += len(engine.step())
            assert submitted - finished <= 3
        assert len(list(engine.drain())) == submitted - finished


def test_seconds_add_up_to_the_time_of_the_whole() -> None:
    start = time.perf_counter()
    finished = run(linear_model(16), PLANS[0], tasks(6))
    elapsed = time.perf_counter() - start
    assert 0.5 * elapsed < sum(f.seconds for f in finished) <= elapsed
    assert all(f.seconds > 0 for f in finished)


class Picky(Linear):
    """Raises, or says what is no number, where an image's noisy values are beyond 50."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        bad = (x > 50).flatten(1).any(dim=1)
        if self.answer == "raise" and bad.any():
            raise RuntimeError("too bright")
        return torch.where(bad[:, None], torch.nan, super().forward(x))


@pytest.mark.parametrize(
    ("answer", "message"), [("raise", "too bright"), ("nan", "output is not finite")]
)
@pytest.mark.parametrize("plan", PLANS[:2])
def test_an_image_that_raises_ends_alone(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, answer: str, message: str
) -> None:
    monkeypatch.setattr("diffsmooth.models.smoothing.engine.check_image", lambda *_: None)
    images = tasks(8)
    expected = run(linear_model(32), plan, images)
    for i in (0, 5):
        images[i] = images[i]._replace(image=torch.full(SHAPE, 99.0))
    finished = run(linear_model(32, Picky(answer)), plan, images)
    for i, (one, other) in enumerate(zip(finished, expected, strict=True)):
        if i in (0, 5):
            assert one.certificate is None
            assert message in str(one.error)
        else:
            assert one.certificate == other.certificate


class Later(Linear):
    """Raises once, at a batch of an image whose earlier batches have counted."""

    def __init__(self) -> None:
        super().__init__()
        self.at = -1

    def forward(self, x: Tensor) -> Tensor:
        if len(self.seen) == self.at:
            self.seen.append(0)
            raise RuntimeError("it failed for a moment")
        return super().forward(x)


@pytest.mark.parametrize("at", range(2, 9))
def test_what_a_failed_image_has_counted_is_not_its_successors(at: int) -> None:
    images = tasks(6)
    expected = run(linear_model(10), PLANS[0], images, in_flight=1)
    later = Later()
    model = linear_model(10, later)
    ensure_fixed(model.f)
    later.at = len(later.seen) + at
    finished = run(model, PLANS[0], images, in_flight=1)
    assert [f.error is None for f in finished] == [False] + 5 * [True]
    assert [f.certificate for f in finished[1:]] == [f.certificate for f in expected[1:]]


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image 0 must be \(1, 4, 4\) on the CPU, got \(1, 1, 4\)"
    ):
        certify_image(linear_model(8), torch.zeros(1, 1, 4), 0, PLANS[0])


def test_broken_images_are_refused_and_networks_that_do_not_fit_end_the_run() -> None:
    images = tasks(3)
    images[1] = images[1]._replace(image=torch.full(SHAPE, 1.5))
    finished = run(linear_model(32), PLANS[0], images)
    assert "image 1 must lie in [0, 1]" in str(finished[1].error)
    assert finished[0].certificate is not None
    assert finished[2].certificate is not None
    local = LocalSmoothing(Linear(), m=1, sigma_local=0.0, image_shape=SHAPE)
    wrong = VoteFunction(IdentityPurifier(), local, 0.25, num_classes=4)
    with pytest.raises(NetworkError, match="has 3 classes, not 4"):
        run(wrong, PLANS[0], tasks(1))


def test_another_source_of_noise_gives_other_votes_and_near_radii() -> None:
    plan = FixedSampleSize(n0=100, n=5000)
    model, (task, *_) = linear_model(500), tasks(1)
    with VoteEngine(model.f, plan, DeviceNoise(torch.device("cpu"))) as engine:
        engine.submit(task)
        (finished,) = engine.drain()
    mine, other = run_plan(model, task.image, task.key, plan), finished.certificate
    assert other is not None
    assert other.estimation_counts != mine.estimation_counts
    assert other.p_lower == pytest.approx(mine.p_lower, abs=0.04)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="in_flight must be at least 1"):
        VoteEngine(linear_model(4).f, PLANS[0], in_flight=0)
