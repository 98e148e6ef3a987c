"""Purifiers: from a noisy image to a clean-looking one, by a denoiser, in one step or several."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.denoiser import (
    Denoiser,
    DiscreteTimeDenoiser,
    as_denoiser,
    nan_where_infinite,
)
from diffsmooth.models.diffusion.openai import OpenAIDenoiser
from diffsmooth.models.diffusion.schedule import DiffusionSchedule, ancestral_step
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.words import Convention
from diffsmooth.stats.bounds import count_of
from diffsmooth.stats.errors import UserError


class Purifier(nn.Module):
    """Base of the purifiers: one that does nothing.

    Attributes:
        reverse_runs: reverse runs a vote, which is the answer of most of them, see `VoteFunction`.
        draws: standard normal draws that a reverse run needs.
    """

    reverse_runs = 1
    draws = 0

    def noise_level(self, sigma: float) -> float:
        """Standard deviation of the noise that it wants; see `Denoiser.noise_level`."""
        return sigma

    def prepare(self, sigma: float) -> list[nn.Module]:
        """Computes once what is the same for all votes at a sigma; see `Denoiser.prepare`."""
        return []

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        """Purified images in [0, 1].

        Args:
            noisy, sigma: see `Denoiser.forward`; must not be changed in place.
            draws: standard normal (draws, B, C, H, W): fresh for each vote and reverse run. None
                where no draws are needed.
        """
        return noisy


class IdentityPurifier(Purifier):
    """No purification: plain randomized smoothing (Cohen et al. 2019). Returns images unclamped."""


class OneShotPurifier(Purifier):
    """One jump from the noise level to the image.

    Args:
        denoiser: a `Denoiser`, or any callable (noisy, sigma) -> x_0; or a U-Net, of which the
            others make an `OpenAIDenoiser`.
        schedule: noise schedule of a U-Net, and of nothing else.
        convention, pad_to: with a schedule: see `OpenAIDenoiser`.

    Raises:
        UserError: a U-Net without its schedule, or options of a U-Net with another denoiser.
    """

    _convention: Convention = "diffsmooth"

    def __init__(
        self,
        denoiser: Denoiser | UNet | Callable[[Tensor, float], Tensor],
        schedule: DiffusionSchedule | None = None,
        convention: Convention | None = None,
        pad_to: int | None = None,
    ) -> None:
        super().__init__()
        if schedule is not None and not isinstance(denoiser, Denoiser):
            unet: Any = denoiser
            denoiser = OpenAIDenoiser(unet, schedule, convention or self._convention, pad_to)
        elif isinstance(denoiser, UNet) or (schedule, convention, pad_to) != (None, None, None):
            raise UserError(
                "schedule, convention and pad_to are of a U-Net, which needs its schedule"
            )
        self.denoiser = as_denoiser(denoiser)

    def noise_level(self, sigma: float) -> float:
        return self.denoiser.noise_level(sigma)

    def prepare(self, sigma: float) -> list[nn.Module]:
        return self.denoiser.prepare(sigma)

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        return nan_where_infinite(self.denoiser(noisy, sigma))


class MultiStepPurifier(OneShotPurifier):
    """Several ancestral sampling steps from the timestep whose noise matches sigma.

    Each reverse run draws noise of its own between the steps, and a vote is the answer of most of
    them: see `VoteFunction`.

    Args:
        denoiser, schedule, convention, pad_to: see `OneShotPurifier`; a `DiscreteTimeDenoiser`, and
            densepure is the convention by default.
        steps: number of evenly spaced timesteps, at least 1; 1 is one shot.
        runs: reverse runs a vote (DensePure's K), at least 1.

    Raises:
        ValueError: steps < 1 or runs < 1.
        UserError: a denoiser without timesteps, or see `OneShotPurifier`.

    Source: DensePure (Xiao et al. 2023), the published code, with the steps of `ancestral_step`
    on the sub-sampled timesteps. Theirs is less exact in what the schedule is at these: for
    ImageNet they divide abar_t by abar_0, which is 0.9999; for CIFAR-10 their t + 1 has our abar_t,
    and only the time that the network is told is one later (of 4,000).
    """

    denoiser: DiscreteTimeDenoiser
    _convention = "densepure"

    def __init__(
        self,
        denoiser: DiscreteTimeDenoiser | UNet,
        schedule: DiffusionSchedule | None = None,
        steps: int = 10,
        runs: int = 1,
        convention: Convention | None = None,
        pad_to: int | None = None,
    ) -> None:
        super().__init__(denoiser, schedule, convention, pad_to)
        if not isinstance(self.denoiser, DiscreteTimeDenoiser):
            raise UserError(
                "several steps need a denoiser with timesteps (DiscreteTimeDenoiser), got a "
                f"{type(denoiser).__name__}: one shot takes any"
            )
        self.steps = count_of("steps", steps)
        self.reverse_runs = count_of("runs", runs)
        self.draws = steps - 1  # the last step adds no noise

    def prepare(self, sigma: float) -> list[nn.Module]:
        return self.denoiser.prepare_timesteps(self._spaced(self.denoiser.start(sigma).timestep))

    def forward(self, noisy: Tensor, sigma: float, draws: Tensor | None = None) -> Tensor:
        start = self.denoiser.start(sigma)
        timesteps = self._spaced(start.timestep)
        if draws is None and len(timesteps) > 1:
            raise ValueError(f"draws must be ({self.draws}, B, C, H, W), got None")
        return self._reverse(
            (2 * noisy - 1) * start.scale, timesteps, iter(() if draws is None else draws)
        )

    def generate(self, noise: Tensor, draws: Iterator[Tensor]) -> Tensor:
        """New images in [0, 1], shaped like `noise`, by a network of the whole schedule.

        Args:
            noise: standard normal (B, C, H, W), taken as x_T.
            draws: as many as `draws` more of them, one a step but for the last.

        Source: Ho et al. 2020, algorithm 2, on the sub-sampled timesteps.
        """
        return self._reverse(noise, self._spaced(self.denoiser.schedule.steps - 1), draws)

    def _spaced(self, t: int) -> list[int]:
        """round(t - i t / steps) for i < steps, without repetitions."""
        spaced = [round(t - i * t / self.steps) for i in range(self.steps)]
        return sorted(set(spaced), reverse=True)

    def _reverse(self, x: Tensor, timesteps: list[int], draws: Iterator[Tensor]) -> Tensor:
        """Images in [0, 1] from x_t (B, C, H, W) at the first of the timesteps."""
        for t, s in pairwise(timesteps):
            x_0, learned = self.denoiser.predict(x, t)
            step = ancestral_step(self.denoiser.schedule, t, s)
            log_variance = torch.as_tensor(step.log_variance(learned), device=x.device)
            x = step.mean(x_0, x) + torch.exp(0.5 * log_variance) * next(draws)
        x_0, _ = self.denoiser.predict(x, timesteps[-1])
        return (x_0 + 1) / 2
