"""The noise schedule of a diffusion model: the timestep of a sigma, and the steps back."""

import math
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import numpy as np
from torch import Tensor

from diffsmooth.stats.bounds import count_of
from diffsmooth.stats.printed import digits_down

ScheduleKind = Literal["cosine", "linear"]


class DiffusionSchedule:
    """Noise schedule of a denoising diffusion model.

    Args:
        kind: "cosine" (Nichol & Dhariwal 2021, eq. 17; betas capped at 0.999) or "linear"
            (Ho et al. 2020: beta from 1e-4 to 0.02 at 1000 steps, scaled for other numbers).
        steps: number of diffusion steps T, at least 1.

    Attributes:
        betas: float64 (T,), variance added at each step.
        alphas_cumprod: float64 (T,), abar_t, the share of the signal's variance left at step t.

    Raises:
        ValueError: unknown kind, or steps < 1.
    """

    def __init__(self, kind: ScheduleKind, steps: int) -> None:
        self.kind: str = kind
        self.steps = count_of("steps", steps)
        self.betas = _betas(kind, steps)
        self.alphas_cumprod: np.ndarray = np.cumprod(1.0 - self.betas)

    @classmethod
    def given(cls, alphas_cumprod: np.ndarray) -> Self:
        """The schedule of another library's network.

        Args:
            alphas_cumprod: (T,), abar_t, falling strictly, in (0, 1); the last may be 0.

        Raises:
            ValueError: it is not so.
        """
        abar = np.asarray(alphas_cumprod, dtype=np.float64)
        before = np.concatenate([[1.0], abar[:-1]])
        if abar.ndim != 1 or not abar.size or not (abar < before).all() or not abar[0] > 0:
            raise ValueError("the signal's share must fall at each step, from below 1 to 0 at most")
        if not abar[-1] >= 0:
            raise ValueError("the signal's share must not be negative")
        schedule = cls("linear", len(abar))
        schedule.kind, schedule.betas, schedule.alphas_cumprod = "given", 1 - abar / before, abar
        return schedule

    def sigma(self, t: int | np.ndarray) -> np.ndarray:
        """Noise level of timestep `t` as a standard deviation in [0, 1] pixel units.

        sqrt(1 - abar) / sqrt(abar) is the noise-to-signal ratio for images in [-1, 1], which are
        twice as wide as images in [0, 1].
        """
        abar = self.alphas_cumprod[t]
        with np.errstate(divide="ignore"):  # of no signal at all it is infinite
            return np.sqrt(1.0 - abar) / np.sqrt(abar) / 2.0

    @property
    def max_sigma(self) -> float:
        """The largest sigma ([0, 1] pixel units) that some timestep reaches."""
        levels = self.sigma(np.arange(self.steps))
        return float(levels[np.isfinite(levels)][-1])

    def timestep(self, sigma: float) -> int:
        """First timestep t with sqrt(1 - abar_t) / sqrt(abar_t) >= 2 sigma.

        Args:
            sigma: noise standard deviation, in [0, 1] pixel units, > 0.

        Raises:
            ValueError: sigma <= 0, or beyond the schedule's last step.

        Source: DiffSmooth (Zhang et al. 2023), section 4.1; the published code's search.
        """
        if not sigma > 0:
            raise ValueError(f"sigma must be > 0, got {sigma}")
        reached = np.flatnonzero(self.sigma(np.arange(self.steps)) >= sigma)
        if reached.size == 0 or sigma > self.max_sigma:
            raise ValueError(
                f"sigma {sigma} is beyond the {self.kind} schedule of {self.steps} steps: "
                f"the largest possible is {digits_down(self.max_sigma, 4)}"
            )
        return int(reached[0])

    def network_time(self, t: float) -> float:
        """The number that the network is fed for timestep `t`: t rescaled to [0, 1000).

        The identity at 1000 steps. Source: Nichol & Dhariwal's `rescale_timesteps`.
        """
        return t * 1000.0 / self.steps


def _betas(kind: str, steps: int) -> np.ndarray:
    if kind == "linear":
        scale = 1000.0 / steps
        return np.linspace(scale * 1e-4, scale * 0.02, steps, dtype=np.float64)
    if kind == "cosine":

        def abar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        edges = [abar(i / steps) for i in range(steps + 1)]
        ratios = [min(1 - after / before, 0.999) for before, after in pairwise(edges)]
        return np.array(ratios, dtype=np.float64)
    raise ValueError(f"unknown schedule kind {kind!r}: known are 'cosine' and 'linear'")


class AncestralStep(NamedTuple):
    """A reverse step from x_t to x_s, s < t: a normal of mean of_x_0 * x_0 + of_x_t * x_t.

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
