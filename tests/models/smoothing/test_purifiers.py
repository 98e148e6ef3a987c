from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffsmooth.golden import FOLDER
from diffsmooth.golden.fill import fill
from diffsmooth.models import (
    DiffusionSchedule,
    IdentityPurifier,
    MultiStepPurifier,
    OneShotPurifier,
    build_unet,
)
from diffsmooth.models.diffusion.openai import match_noise
from diffsmooth.models.diffusion.presets import get_preset
from diffsmooth.models.diffusion.schedule import ancestral_step
from diffsmooth.models.words import Convention
from diffsmooth.pipeline.self_test import SMALL_UNETS
from diffsmooth.stats.bounds import least_sigma


@pytest.mark.parametrize("family", SMALL_UNETS)
@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_purified_images_equal_the_golden_ones(family: str, sigma: float) -> None:
    preset, overrides = SMALL_UNETS[family]
    unet = build_unet(preset, **overrides).eval()
    unet.load_state_dict(fill(unet.state_dict()))
    golden = np.load(FOLDER / f"unet_small_{family}.npz")
    if f"purified_{sigma}" not in golden:
        pytest.fail(f"no purified_{sigma} among {golden.files}")
    noisy = torch.from_numpy(golden["image"] + np.float32(sigma) * golden[f"noise_{sigma}"])
    with torch.inference_mode():
        purified = OneShotPurifier(unet, get_preset(preset).schedule)(noisy, sigma)
    np.testing.assert_allclose(purified.numpy(), golden[f"purified_{sigma}"], atol=2e-4)


class _KnowsTheNoise(nn.Module):
    """Stands in for a perfect U-Net: returns the epsilon of a known image."""

    def __init__(self, image: Tensor, schedule: DiffusionSchedule) -> None:
        super().__init__()
        self.image, self.schedule = image, schedule
        self.sizes: list[tuple[int, ...]] = []
        self.timesteps: list[int] = []

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        assert times.shape == (1,)
        t = round(float(times) * self.schedule.steps / 1000)
        self.sizes.append(tuple(x.shape[2:]))
        self.timesteps.append(t)
        abar = self.schedule.alphas_cumprod[t]
        side = (x.shape[2] - self.image.shape[2]) // 2
        image = nn.functional.pad(self.image, (side,) * 4, mode="reflect") if side else self.image
        return (x - abar**0.5 * (2 * image - 1)) / (1 - abar) ** 0.5


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_perfect_noise_prediction_restores_the_image(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("cosine", 4000)
    image = torch.rand((1, 1, 8, 8), generator=generator)
    noisy = image + sigma * torch.randn((5, 1, 8, 8), generator=generator)
    unet = _KnowsTheNoise(image, schedule)
    purified = OneShotPurifier(unet, schedule)(noisy, sigma)  # type: ignore[arg-type]
    torch.testing.assert_close(purified, image.expand_as(purified), atol=1e-5, rtol=0)


def test_the_purified_image_lies_in_the_unit_range() -> None:
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=()).eval()
    noisy = 3 * torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        purified = OneShotPurifier(unet, DiffusionSchedule("cosine", 4000))(noisy, 1.0)
    assert purified.min() == 0
    assert purified.max() == 1


def test_no_purifier_changes_nothing() -> None:
    noisy = 3 * torch.randn(2, 1, 8, 8)
    assert IdentityPurifier()(noisy, 0.5) is noisy


def test_conventions_by_their_definitions() -> None:
    schedule = DiffusionSchedule("linear", 1000)
    ratio = np.sqrt(1 / schedule.alphas_cumprod - 1)
    for sigma in (0.12, 0.25, 0.5, 1.0, 1.7):
        ours = match_noise(schedule, sigma, "diffsmooth")
        assert ours.timestep == int(np.argmax(ratio >= 2 * sigma))
        assert ours.noise_level == sigma
        assert ours.scale == pytest.approx(schedule.alphas_cumprod[ours.timestep] ** 0.5)
        carlini = match_noise(schedule, sigma, "carlini")
        assert carlini.timestep == ours.timestep
        assert carlini.noise_level == pytest.approx(ratio[carlini.timestep] / 2)
        assert carlini.noise_level >= sigma  # or its radius would overstate
        densepure = match_noise(schedule, sigma, "densepure")
        assert densepure.timestep == int(np.argmin(np.abs(ratio - 2 * sigma)))
        assert densepure.noise_level == sigma
        assert densepure.scale == pytest.approx((1 + 4 * sigma**2) ** -0.5)
    tiny = float(schedule.sigma(0)) / 2
    assert match_noise(schedule, tiny, "diffsmooth").timestep == 0
    assert match_noise(schedule, tiny, "carlini").timestep == 1
    with pytest.raises(ValueError, match="unknown convention 'x': known are diffsmooth, carlini"):
        match_noise(schedule, 0.5, "x")  # type: ignore[arg-type]


def test_where_densepure_starts_on_cifar10() -> None:
    """Their rule, a rounded inverse of the continuous schedule, is later by 1, rarely by 2."""
    schedule, later = DiffusionSchedule("cosine", 4000), []
    for sigma in [0.12, 0.25, 0.5, 0.75, 1.0, *np.linspace(0.01, 5, 2000)]:
        ratio = np.sin(np.pi / 2.016) / np.sqrt(1 + (2 * sigma) ** 2)
        theirs = round(4000 * (1 - 2.016 * np.arcsin(ratio) / np.pi))
        later.append(theirs - match_noise(schedule, float(sigma), "densepure").timestep)
    assert later[:5] == [1] * 5
    assert set(later) <= {1, 2}
    assert later.count(2) <= 3


@pytest.mark.parametrize(("t", "s"), [(2000, 1000), (3000, 500), (801, 800)])
def test_without_a_learned_variance_the_noise_left_is_that_of_the_timestep(t: int, s: int) -> None:
    """x_s given x_0 where the network knows x_0: its variance is what the network at s expects."""
    schedule = DiffusionSchedule("cosine", 4000)
    step = ancestral_step(schedule, t, s)
    log_variance = step.log_variance(None)
    assert isinstance(log_variance, float)
    carried = step.of_x_t**2 * (1 - schedule.alphas_cumprod[t])
    expected = 1 - schedule.alphas_cumprod[s]
    assert carried + np.exp(log_variance) == pytest.approx(expected)
    assert carried + np.exp(step.log_large) > expected  # what OpenAI's code takes by default


def test_the_ancestral_step_is_the_gaussian_posterior() -> None:
    """x_s given x_t and x_0, by conditioning the joint normal of (x_s, x_t)."""
    schedule = DiffusionSchedule("cosine", 4000)
    for t, s in ((2000, 1600), (1000, 999), (5, 1)):
        abar_t, abar_s = schedule.alphas_cumprod[t], schedule.alphas_cumprod[s]
        # x_s = sqrt(abar_s) x_0 + n_s,  x_t = sqrt(abar_t / abar_s) x_s + n
        gain = np.sqrt(abar_t / abar_s)
        variance_s, variance_t = 1 - abar_s, 1 - abar_t
        slope = gain * variance_s / variance_t
        step = ancestral_step(schedule, t, s)
        assert step.of_x_t == pytest.approx(slope)
        assert step.of_x_0 == pytest.approx(np.sqrt(abar_s) - slope * np.sqrt(abar_t))
        assert np.exp(step.log_small) == pytest.approx(variance_s - slope * gain * variance_s)
        assert np.exp(step.log_large) == pytest.approx(1 - gain**2)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_several_steps_with_perfect_noise_prediction_restore_the_image(steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("cosine", 4000)
    image = torch.rand((1, 1, 8, 8), generator=generator)
    noisy = image + 0.5 * torch.randn((5, 1, 8, 8), generator=generator)
    unet = _KnowsTheNoise(image, schedule)
    purifier = MultiStepPurifier(unet, schedule, steps)  # type: ignore[arg-type]
    draws = torch.randn((purifier.draws, 5, 1, 8, 8), generator=generator)
    purified = purifier(noisy, 0.5, draws)
    torch.testing.assert_close(purified, image.expand_as(purified), atol=1e-4, rtol=0)
    t = match_noise(schedule, 0.5, "densepure").timestep
    assert unet.timesteps == [round(t - i * t / steps) for i in range(steps)]


def test_one_step_is_one_shot_and_draws_matter_between_steps() -> None:
    torch.manual_seed(0)
    unet = build_unet("small-gray32", channel_mult=(1, 1), attention_resolutions=(), out_channels=2)
    nn.init.normal_(unet.out[2].weight, std=0.05)  # type: ignore[arg-type]
    unet.eval()
    schedule = DiffusionSchedule("cosine", 4000)
    noisy = torch.rand(3, 1, 8, 8) + 0.5 * torch.randn(3, 1, 8, 8)
    with torch.inference_mode():
        one = MultiStepPurifier(unet, schedule, 1, convention="diffsmooth")(noisy, 0.5)
        torch.testing.assert_close(one, OneShotPurifier(unet, schedule)(noisy, 0.5))
        three = MultiStepPurifier(unet, schedule, 3)
        first, second = (three(noisy, 0.5, torch.randn(2, 3, 1, 8, 8)) for _ in range(2))
    assert not torch.allclose(first, second)


def test_padding_shows_the_network_its_own_size_and_is_cropped_again() -> None:
    schedule = DiffusionSchedule("linear", 1000)
    image = torch.rand(1, 1, 24, 24)
    noisy = image + 0.5 * torch.randn(2, 1, 24, 24)
    unet = _KnowsTheNoise(image, schedule)
    purified = OneShotPurifier(unet, schedule, pad_to=32)(noisy, 0.5)  # type: ignore[arg-type]
    assert unet.sizes == [(32, 32)]
    torch.testing.assert_close(purified, image.expand_as(purified), atol=1e-5, rtol=0)


def test_arguments_out_of_range() -> None:
    schedule = DiffusionSchedule("linear", 1000)
    unet = build_unet("small-gray32", channel_mult=(1,), attention_resolutions=())
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        MultiStepPurifier(unet, schedule, 0)
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        MultiStepPurifier(unet, schedule, 2, runs=0)


def test_a_network_that_knows_one_image_generates_it() -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("linear", 1000)
    image = torch.rand((1, 1, 8, 8), generator=generator)
    unet = _KnowsTheNoise(image, schedule)
    purifier = MultiStepPurifier(unet, schedule, 5)  # type: ignore[arg-type]
    noise, *draws = torch.randn((1 + purifier.draws, 3, 1, 8, 8), generator=generator)
    generated = purifier.generate(noise, iter(draws))
    torch.testing.assert_close(generated, image.expand_as(generated), atol=1e-4, rtol=0)
    assert unet.timesteps == [999, 799, 599, 400, 200]


class _KnowsTheDistribution(nn.Module):
    """Stands in for a perfect U-Net of pixels that are all 0.5 + 0.1 * standard normal."""

    def __init__(self, schedule: DiffusionSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        abar = self.schedule.alphas_cumprod[round(float(times) * self.schedule.steps / 1000)]
        # In [-1, 1] units x_0 ~ N(0, 0.2^2): E[eps | x_t].
        return x * (1 - abar) ** 0.5 / (abar * 0.2**2 + 1 - abar)


def test_generated_images_have_the_distribution_that_the_network_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = DiffusionSchedule("linear", 1000)
    unet = _KnowsTheDistribution(schedule)
    purifier = MultiStepPurifier(unet, schedule, 500)  # type: ignore[arg-type]
    shape = (64, 1, 8, 8)
    draws = (torch.randn(shape, generator=generator) for _ in range(purifier.draws))
    generated = purifier.generate(torch.randn(shape, generator=generator), draws)
    assert generated.mean().item() == pytest.approx(0.5, abs=0.01)
    assert generated.std().item() == pytest.approx(0.1, rel=0.05)


@settings(max_examples=2000, deadline=None)
@given(st.floats(1e-3, 5.0), st.sampled_from(get_args(Convention)))
def test_the_noise_is_drawn_at_no_less_than_the_sigma_of_the_radius(
    sigma: float, convention: Convention
) -> None:
    level = match_noise(DiffusionSchedule("cosine", 400), sigma, convention).noise_level
    drawn = float(torch.full((1,), level))
    assert level >= sigma
    assert drawn >= least_sigma(sigma)
    if convention != "carlini":
        assert min(drawn, sigma) == least_sigma(sigma)
