"""Every setting of a sweep is judged by exactly the votes that a certification with it casts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from diffsmooth.models import (
    IdentityPurifier,
    LocalSmoothing,
    MultiStepPurifier,
    OneShotPurifier,
    build_unet,
)
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.fixed_function import ensure_fixed
from diffsmooth.models.smoothing.local_smoothing import NetworkError, draw_local_noise
from diffsmooth.models.smoothing.noise import NoiseKey, NumpyNoise, Votes, draw_noise
from diffsmooth.models.smoothing.one_image import run_plan
from diffsmooth.models.smoothing.packing import Task, draws_ahead
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.sweep import Setting, Sweep, certify_settings, share_copies
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import Certificate, FixedSampleSize
from diffsmooth.stats.group_sequential import GroupSequential

SIGMA, SEED = 0.5, 42
PLAN = FixedSampleSize(n0=9, n=32, alpha=0.05)
SETTINGS = [Setting(0.0, 1), *(Setting(s, m) for s in (0.2, 0.6) for m in (1, 2, 3, 5))]


class Wavy(nn.Module):
    """Three classes, far from linear, so that local noise matters; in float64, row by row: what
    else is in a batch cannot change an answer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(6, size, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight / size**0.5)
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        features = (x.flatten(1).double()[:, None] * self.weight).sum(dim=2)
        return 4 * torch.sin(9 * features).unflatten(1, (3, 2)).sum(dim=2)


class Restless(Purifier):
    """A random purifier, and a majority over three runs."""

    reverse_runs, draws = 3, 2

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        assert draws is not None
        return (0.6 * noisy + 0.2 + 0.3 * draws[0] - 0.2 * draws[1]).clamp(0, 1)


class Counting(IdentityPurifier):
    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        self.images += len(noisy)
        return noisy


def smooth(
    purifier: Purifier,
    shape: tuple[int, int, int],
    setting: Setting = SETTINGS[0],
    batch: int = 12,
) -> VoteFunction:
    classifier = Wavy(shape[0] * shape[1] * shape[2])
    local = LocalSmoothing(classifier, setting.m, setting.sigma_local, shape, SEED)
    return VoteFunction(purifier, local, SIGMA, 3, batch, copy=False)


def tasks(shape: tuple[int, int, int], count: int = 3) -> list[Task]:
    generator = torch.Generator().manual_seed(5)
    return [
        Task(torch.rand(shape, generator=generator), NoiseKey(0, "tune", "d", "train", 7 * i))
        for i in range(count)
    ]


def diffusion(steps: int | None = None) -> Purifier:
    torch.manual_seed(3)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=(), image_size=8)
    schedule = get_preset("small-gray32").schedule
    if steps is None:
        return OneShotPurifier(unet.eval(), schedule)
    return MultiStepPurifier(unet.eval(), schedule, steps, runs=3)


def judged(
    purifier: Purifier, shape: tuple[int, int, int], settings: Sequence[Setting] = SETTINGS
) -> list[list[Certificate]]:
    sweep = Sweep(smooth(purifier, shape).f, settings, SEED)
    return list(certify_settings(sweep, PLAN, tasks(shape), NumpyNoise(), lambda votes: None))


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 5), (1, 1, 3)])
@pytest.mark.parametrize("purifier", [IdentityPurifier(), Restless()])
def test_each_settings_certificates_are_those_of_its_own_certification(
    purifier: Purifier, shape: tuple[int, int, int]
) -> None:
    found = judged(purifier, shape)
    assert len({tuple(image) for image in found}) == len(found)
    assert len(set(found[0])) > 3  # the settings do differ
    for task, certificates in zip(tasks(shape), found, strict=True):
        for setting, certificate in zip(SETTINGS, certificates, strict=True):
            own = smooth(purifier, shape, setting)
            assert certificate == run_plan(own, task.image, task.key, PLAN)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [None, 3])
def test_so_they_are_behind_a_diffusion_model(steps: int | None) -> None:
    purifier, shape, settings = diffusion(steps), (1, 8, 8), SETTINGS[1:6]
    found = judged(purifier, shape, settings)
    for task, certificates in zip(tasks(shape), found, strict=True):
        for setting, certificate in zip(settings, certificates, strict=True):
            own = smooth(purifier, shape, setting)
            assert certificate == run_plan(own, task.image, task.key, PLAN)


@pytest.mark.parametrize("purifier", [IdentityPurifier(), Restless()])
def test_each_vote_is_that_of_the_vote_function(purifier: Purifier) -> None:
    shape, noise = (1, 4, 4), NumpyNoise()
    (task,) = tasks(shape, 1)
    f, votes = smooth(purifier, shape, batch=40).f, [Votes(task.key, 0, 0, 40)]
    noisy = noise.noisy(votes, [task.image], f.noise_level, 40).images

    def draws_of(run: int) -> Tensor | None:
        lanes = range(1 + run * purifier.draws, 1 + (run + 1) * purifier.draws)
        draws = [draw_noise(task.key, 40, shape, lane=lane) for lane in lanes]
        return torch.stack(draws) if draws else None

    with torch.inference_mode():
        answers = Sweep(f, SETTINGS, SEED).answer(noisy, draws_of)
        assert answers.shape == (len(SETTINGS), 40)
        for setting, row in zip(SETTINGS, answers, strict=True):
            expected = smooth(purifier, shape, setting).f.answer(noisy, draws_of)
            assert torch.equal(row, expected)
    assert len({tuple(row.tolist()) for row in answers}) > 4


def test_copies_are_shared_where_a_few_are_the_first_of_many() -> None:
    # By sixteens torch's draws are; others depend on their number.
    for shape, rows in (((1, 32, 32), 9), ((3, 5, 5), 1 + 3 + 9)):
        noise, rows_of_m = share_copies((3, 9, 1, 3), shape, SEED)
        assert len(noise) == rows
        for m in (1, 3, 9):
            expected = draw_local_noise(m, shape, SEED)
            assert torch.equal(noise[rows_of_m[m]], expected)


def test_one_purification_and_the_most_copies_are_all_that_it_costs() -> None:
    shape, purifier = (1, 4, 4), Counting()
    f = smooth(purifier, shape).f
    settings = [Setting(s, m) for s in (0.1, 0.2) for m in (1, 2, 5)]
    seen: list[int] = []
    sweep = Sweep(f, settings, SEED)
    classifier = f.local_smoothing.classifier
    assert isinstance(classifier, Wavy)
    ensure_fixed(f)
    purifier.images = classifier.images = 0
    list(certify_settings(sweep, PLAN, tasks(shape, 2), NumpyNoise(), seen.append))
    assert sum(seen) == 2 * PLAN.max_votes
    assert len(seen) <= 2 * -(-PLAN.max_votes // f.batch)  # what each image by itself would take
    assert purifier.images == len(seen) * f.batch
    assert classifier.images == len(seen) * f.batch * 2 * 5


class SlowlyDrawn(NumpyNoise):
    """Notes the lanes as they are begun."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: list[int] = []

    def draw(self, votes: Sequence[Votes], lane: int, rows: int, shape: tuple[int, ...]) -> Tensor:
        self.lanes.append(lane)
        return super().draw(votes, lane, rows, shape)


@pytest.mark.parametrize("asked", [[0, 1, 2], [1, 0, 1], [2, 2, 0], [1]])
def test_the_draws_of_a_run_are_those_of_its_lanes_whatever_was_asked_before(
    asked: list[int],
) -> None:
    key, shape, noise = NoiseKey(0, "tune", "d", "train", 1), (1, 2, 2), SlowlyDrawn()
    f = smooth(Restless(), shape, batch=4).f
    with ThreadPoolExecutor(1) as background:
        draws_of = draws_ahead(f, noise, [Votes(key, 1, 0, 3)], background)
        for run in asked:
            drawn = draws_of(run)
            assert drawn is not None
            assert drawn.shape == (2, 4, *shape)
            for i in range(2):
                lane = 1 + 2 * run + i
                assert torch.equal(drawn[i, :3], draw_noise(key, 3, shape, stage=1, lane=lane))
            background.submit(int).result()  # behind what has been begun
            begun = 3 + 2 * run + 1
            assert (begun in noise.lanes) == (begun < 7)
    if asked == [0, 1, 2]:
        assert noise.lanes == [1, 2, 3, 4, 5, 6]  # each once


def test_settings_share_their_votes_and_so_need_a_fixed_number() -> None:
    sweep = Sweep(smooth(IdentityPurifier(), (1, 4, 4)).f, SETTINGS, SEED)
    plan = GroupSequential(n0=9, n=400, first_look=20)
    with pytest.raises(ValueError, match="share their votes: not possible with plan"):
        VoteEngine(sweep, plan)


def test_what_is_not_finite_or_no_image_is_refused() -> None:
    class Broken(Wavy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / (x.flatten(1).amax(dim=1, keepdim=True) < 4)

    shape = (1, 4, 4)
    local = LocalSmoothing(Broken(16), 1, 0.0, shape, SEED)
    f = VoteFunction(IdentityPurifier(), local, SIGMA, 3, 12)
    settings, noise = [Setting(0.0, 1), Setting(4.0, 1)], NumpyNoise()
    with pytest.raises(NetworkError, match=r"image 0: .* not finite at sigma_local 4, m 1"):
        list(certify_settings(Sweep(f, settings, SEED), PLAN, tasks(shape), noise, len_of))
    beyond = [Task(torch.full(shape, 1.5), NoiseKey(0, "tune", "d", "train", 4))]
    with pytest.raises(ValueError, match=r"image 4 must lie in \[0, 1\]"):
        list(certify_settings(Sweep(f, settings, SEED), PLAN, beyond, noise, len_of))


def len_of(votes: int) -> None:
    """Takes the progress, and shows none."""
