"""Purifiers: noisy image to clean-looking image, by the reverse process of a diffusion model."""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.diffusion.ancestral_step import ancestral_step
from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.smoothing.finite import nan_where_infinite
from diffsmooth.models.words import Convention


class NoiseMatch(NamedTuple):
    """Where the reverse process starts.

    Attributes:
        timestep: t.
        noise_level: standard deviation of the noise that is drawn, >= sigma, [0, 1] pixel units.
        scale: what the noisy image, in [-1, 1] units, is multiplied by to become x_t.
    """

    timestep: int
    noise_level: float
    scale: float


@lru_cache(maxsize=64)
def match_noise(schedule: DiffusionSchedule, sigma: float, convention: Convention) -> NoiseMatch:
    """The timestep for a noise level, and what its noise and scale are.

    - diffsmooth: the first t with noise-to-signal ratio >= 2 sigma; noise of level sigma; scale
      sqrt(abar_t). Source: DiffSmooth (Zhang et al. 2023), the published code.
    - carlini: the same search from t = 1 on; noise of the schedule's own level at t, a little more
      than sigma, so that the radius, computed with sigma, is conservative. Source: Carlini et al.
      2023, the published code (certify.py and DRM.py of ethz-spylab/diffusion_denoised_smoothing).
    - densepure: the t with the nearest ratio; noise of level sigma; scale 1 / sqrt(1 + 4 sigma^2).
      Source: DensePure (Xiao et al. 2023), the published code for ImageNet
      (runners/diffpure_guided_densepure.py of Jayfeather1024/DensePure). For CIFAR-10 theirs
      rounds a continuous inverse of the cosine schedule, which counts its steps from 1: t + 1 at
      every sigma (t + 2 at 8 of 20,000 between 0.01 and 5, where the rounding falls otherwise).

    Raises:
        ValueError: an unknown convention; sigma <= 0 or beyond the schedule.
    """
    t = schedule.timestep(sigma)
    if convention == "carlini":
        t = max(t, 1)
        return NoiseMatch(t, float(schedule.sigma(t)), math.sqrt(schedule.alphas_cumprod[t]))
    if convention == "densepure":
        if t > 0 and sigma - schedule.sigma(t - 1) <= schedule.sigma(t) - sigma:
            t -= 1
        return NoiseMatch(t, sigma, 1 / math.sqrt(1 + 4 * sigma**2))
    if convention == "diffsmooth":
        return NoiseMatch(t, sigma, math.sqrt(schedule.alphas_cumprod[t]))
    raise ValueError(
        f"unknown convention {convention!r}: known are {', '.join(get_args(Convention))}"
    )


class Purifier(nn.Module):
    """Base of the purifiers: one that does nothing.

    Attributes:
        steps: of the reverse process, in a run.
        runs: reverse runs a vote, which is the answer of most of them, see `VoteFunction`.
        draws: standard normal draws that a run needs.
    """

    steps = 1
    runs = 1
    draws = 0

    def noise_level(self, sigma: float) -> float:
        """Standard deviation of the noise that it wants, >= sigma, [0, 1] pixel units.

        Raises:
            ValueError: sigma <= 0, or beyond the schedule.
        """
        return sigma

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        """Purified images in [0, 1].

        Args:
            noisy: (B, C, H, W), image in [0, 1] plus `noise_level(sigma)` times standard normal
                noise.
            sigma: in [0, 1] pixel units.
            draws: standard normal (draws, B, C, H, W): fresh for each vote and run. None where no
                draws are needed.
        """
        return noisy


class IdentityPurifier(Purifier):
    """No purification: plain randomized smoothing (Cohen et al. 2019). Returns images unclamped."""


class OneShotPurifier(Purifier):
    """One reverse-diffusion jump from the timestep whose noise matches sigma.

    Args:
        unet: predicts epsilon; further output channels (a learned variance) are not used.
        schedule: the one that `unet` was trained on.
        convention: see `match_noise`.
        pad_to: images are reflect-padded to this side for the U-Net, and cropped again; None runs
            it at the images' own size.

    Source: the published code of DiffSmooth (cifar_ddpm.py and imagenet_gdm.py of
    javyduck/DiffSmooth; Zhang et al. 2023) and of Carlini et al. 2023 (DRM.py).
    """

    def __init__(
        self,
        unet: UNet,
        schedule: DiffusionSchedule,
        convention: Convention = "diffsmooth",
        pad_to: int | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.schedule = schedule
        self.convention: Convention = convention
        self.pad_to = pad_to
        self._conditions: dict[int, list[Tensor]] = {}

    def timesteps(self, sigma: float) -> list[int]:
        """The timesteps of a run, falling."""
        return [match_noise(self.schedule, sigma, self.convention).timestep]

    def precompute_times(self, sigma: float) -> None:
        """Computes once what the U-Net is told of the timesteps, for its present weights, device
        and number format."""
        device = next(self.unet.parameters()).device
        self._conditions = {
            t: self.unet.conditions(self._time(t, device)) for t in self.timesteps(sigma)
        }

    def cast_times(self, number_format: torch.dtype) -> None:
        """Casts what was computed once, as `to` casts the weights."""
        for t, conditions in self._conditions.items():
            self._conditions[t] = [condition.to(number_format) for condition in conditions]

    def noise_level(self, sigma: float) -> float:
        return match_noise(self.schedule, sigma, self.convention).noise_level

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        match = match_noise(self.schedule, sigma, self.convention)
        x_t = (2 * noisy - 1) * match.scale
        x_0, _ = self._predict(x_t, match.timestep)
        return (x_0 + 1) / 2

    def _predict(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """x_0 in [-1, 1] from x_t (B, C, H, W), and the variance's weights where learned."""
        times = self._time(t, x_t.device)
        known = [self._conditions[t]] if t in self._conditions else []
        channels, height, width = x_t.shape[1:]
        rows, columns = ((self.pad_to or side) - side for side in (height, width))
        if rows or columns:
            top, left = rows // 2, columns // 2
            x = F.pad(x_t, (left, columns - left, top, rows - top), mode="reflect")
            output = self.unet(x, times, *known)
            output = output[:, :, top : top + height, left : left + width]
        else:
            output = self.unet(x_t, times, *known)
        output = nan_where_infinite(output.to(x_t.dtype))
        abar = float(self.schedule.alphas_cumprod[t])
        epsilon = output[:, :channels]
        x_0 = x_t / math.sqrt(abar) - math.sqrt(1 / abar - 1) * epsilon
        learned = output[:, channels:] if output.shape[1] > channels else None
        return nan_where_infinite(x_0).clamp(-1, 1), learned

    def _time(self, t: int, device: torch.device) -> Tensor:
        # Of length 1: the time is embedded once, not for each vote.
        return torch.full((1,), self.schedule.network_time(t), device=device)


class MultiStepPurifier(OneShotPurifier):
    """Several ancestral sampling steps from the timestep whose noise matches sigma.

    Each run draws noise of its own between the steps, and a vote is the answer of most runs: see
    `VoteFunction`.

    Args:
        unet: predicts epsilon, and the variance where it has the channels for it.
        schedule: the one that `unet` was trained on.
        steps: number of evenly spaced timesteps, at least 1; 1 is one shot.
        runs: reverse runs a vote (DensePure's K), at least 1.
        convention: see `match_noise`.
        pad_to: see `OneShotPurifier`.

    Raises:
        ValueError: steps < 1 or runs < 1.

    Source: DensePure (Xiao et al. 2023), the published code, with the steps of `ancestral_step.py`
    on the sub-sampled timesteps. Theirs is less exact in what the schedule is at these: for
    ImageNet they divide abar_t by abar_0, which is 0.9999; for CIFAR-10 their t + 1 has our abar_t,
    and only the time that the network is told is one later (of 4,000).
    """

    def __init__(
        self,
        unet: UNet,
        schedule: DiffusionSchedule,
        steps: int,
        runs: int = 1,
        convention: Convention = "densepure",
        pad_to: int | None = None,
    ) -> None:
        super().__init__(unet, schedule, convention, pad_to)
        for name, value in (("steps", steps), ("runs", runs)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.steps = steps
        self.runs = runs
        self.draws = steps - 1  # the last step adds no noise

    def timesteps(self, sigma: float) -> list[int]:
        """round(t - i t / steps) for i < steps, without repetitions."""
        return self._spaced(match_noise(self.schedule, sigma, self.convention).timestep)

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        match = match_noise(self.schedule, sigma, self.convention)
        timesteps = self.timesteps(sigma)
        if draws is None and len(timesteps) > 1:
            raise ValueError(f"draws must be ({self.draws}, B, C, H, W), got None")
        return self._reverse(
            (2 * noisy - 1) * match.scale, timesteps, iter(() if draws is None else draws)
        )

    def generate(self, noise: Tensor, draws: Iterator[Tensor]) -> Tensor:
        """New images in [0, 1], shaped like `noise`, by a network of the whole schedule.

        Args:
            noise: standard normal (B, C, H, W), taken as x_T.
            draws: as many as `draws` more of them, one a step but for the last.

        Source: Ho et al. 2020, algorithm 2, on the sub-sampled timesteps.
        """
        return self._reverse(noise, self._spaced(self.schedule.steps - 1), draws)

    def _spaced(self, t: int) -> list[int]:
        spaced = [round(t - i * t / self.steps) for i in range(self.steps)]
        return sorted(set(spaced), reverse=True)

    def _reverse(self, x: Tensor, timesteps: list[int], draws: Iterator[Tensor]) -> Tensor:
        """Images in [0, 1] from x_t (B, C, H, W) at the first of the timesteps."""
        for t, s in pairwise(timesteps):
            x_0, learned = self._predict(x, t)
            step = ancestral_step(self.schedule, t, s)
            log_variance = torch.as_tensor(step.log_variance(learned), device=x.device)
            x = step.mean(x_0, x) + torch.exp(0.5 * log_variance) * next(draws)
        x_0, _ = self._predict(x, timesteps[-1])
        return (x_0 + 1) / 2
