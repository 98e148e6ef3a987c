"""The noise schedule of a diffusion model, and the timestep whose noise matches a given sigma."""

import math
from itertools import pairwise
from typing import Literal, Self

import numpy as np

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
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.kind: str = kind
        self.steps = steps
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
        if abar.ndim != 1 or not abar.size or not (abar < before).all() or not abar[-1] >= 0:
            raise ValueError("the signal's share must fall at each step, from below 1 to 0 at most")
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
        with np.errstate(divide="ignore"):
            ratio = np.sqrt(1.0 - self.alphas_cumprod) / np.sqrt(self.alphas_cumprod)
        reached = np.flatnonzero(ratio >= 2.0 * sigma)
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
