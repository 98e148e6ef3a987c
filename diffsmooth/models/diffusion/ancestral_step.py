"""One step of the reverse process: a normal between two timesteps, its variance perhaps learned."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from diffsmooth.models.diffusion.schedule import DiffusionSchedule


class AncestralStep(NamedTuple):
    """From x_t to x_s, s < t: a normal of mean of_x_0 * x_0 + of_x_t * x_t.

    Its log variance lies between `log_small` (the posterior's) and `log_large` (the step's beta).
    Each field is a number, or (B, 1, 1, 1) with one for each timestep of a batch.
    """

    of_x_0: float | Tensor
    of_x_t: float | Tensor
    log_small: float | Tensor
    log_large: float | Tensor

    def mean(self, x_0: Tensor, x_t: Tensor) -> Tensor:
        """The mean of x_s, shaped like x_0 and x_t, (B, C, H, W)."""
        return self.of_x_0 * x_0 + self.of_x_t * x_t

    def log_variance(self, learned: Tensor | None) -> Tensor | float:
        """log_small and log_large, interpolated by the network; log_small where it says nothing.

        Args:
            learned: (B, C, H, W), -1 for log_small to 1 for log_large; not clamped.

        Without a learned variance OpenAI's code takes log_large by default (sigma_small=False,
        FIXED_LARGE in script_util.py of improved-diffusion and guided-diffusion). Over all of the
        schedule's steps they are nearly the same; over a few, log_large leaves in x_s noise that
        the network at s is not told of. No published purifier samples so: their networks have
        learned variances.

        Source: Nichol & Dhariwal 2021, equation 15.
        """
        if learned is None:
            return self.log_small
        share = (learned + 1) / 2
        return share * self.log_large + (1 - share) * self.log_small


def ancestral_step(schedule: DiffusionSchedule, t: int, s: int) -> AncestralStep:
    """The posterior q(x_s | x_t, x_0) of a schedule. Source: Ho et al. 2020, equations 6 and 7."""
    abar_t, abar_s = schedule.alphas_cumprod[t], schedule.alphas_cumprod[s]
    beta = 1 - abar_t / abar_s
    small = beta * (1 - abar_s) / (1 - abar_t)
    return AncestralStep(
        of_x_0=float(beta * np.sqrt(abar_s) / (1 - abar_t)),
        of_x_t=float((1 - abar_s) * np.sqrt(1 - beta) / (1 - abar_t)),
        log_small=float(np.log(small)),
        log_large=float(np.log(beta)),
    )
