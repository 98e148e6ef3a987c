"""The one contract for what removes noise, and what a reverse process in several steps asks more.

A family of denoisers is a file beside this one with a class that fulfils it, and a line in
`models/checkpoints/denoisers.py` that says how its checkpoints are loaded.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import exact


class Denoiser(nn.Module):
    """From noisy images to clean ones, at any noise level up to its largest.

    Attributes:
        max_sigma: largest sigma that it may be asked for, [0, 1] pixel units.
        image_shape: (C, H, W) of the images that it takes; None where `check_images` decides.
    """

    max_sigma: float = math.inf
    image_shape: tuple[int, int, int] | None = None

    def noise_level(self, sigma: float) -> float:
        """Standard deviation of the noise that it wants for a sigma, >= sigma, same units.

        Raises:
            ValueError: sigma <= 0 or > `max_sigma`.
        """
        if not sigma > 0:
            raise ValueError(f"sigma must be > 0, got {sigma}")
        if sigma > self.max_sigma:
            raise ValueError(
                f"sigma {sigma} is beyond what it was trained for: "
                f"the largest possible is {exact(self.max_sigma)}"
            )
        return sigma

    def check_images(self, shape: tuple[int, int, int]) -> None:
        """Raises ValueError, in words that follow its name, for images (C, H, W) of no use."""
        if self.image_shape not in (None, shape):
            raise ValueError(f"takes images of {_size(self.image_shape)}, not {_size(shape)}")

    def prepare(self, sigma: float) -> list[nn.Module]:
        """Computes once what is the same for all images at a sigma; by default nothing.

        For its present weights, device and number format, under the autocast of the votes.

        Returns:
            Its modules of tensor code alone, which torch.compile may fuse.
        """
        return []

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        """x_0: clean images (B, C, H, W) in [0, 1].

        Args:
            noisy: (B, C, H, W), image in [0, 1] plus `noise_level(sigma)` times standard normal
                noise. It must not be changed in place.
            sigma: noise level of the radius, [0, 1] pixel units.
        """
        raise NotImplementedError


class CallableDenoiser(Denoiser):
    """Any function (noisy, sigma) -> x_0.

    Args:
        function: as `Denoiser.forward`; an nn.Module moves to the device, and is copied, with it.
    """

    def __init__(self, function: Callable[[Tensor, float], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        x_0 = self.function(noisy, sigma)
        if not isinstance(x_0, Tensor) or x_0.shape != noisy.shape:
            got = _size(x_0.shape) if isinstance(x_0, Tensor) else type(x_0).__name__
            raise UserError(f"a denoiser must give images of {_size(noisy.shape)}, got {got}")
        return x_0.to(noisy.dtype)


def as_denoiser(thing: Any) -> Denoiser:
    """A denoiser as it is, or any other callable as a denoiser.

    Raises:
        UserError: it cannot be called.
    """
    if isinstance(thing, Denoiser):
        return thing
    if not callable(thing):
        raise UserError(f"a denoiser must be callable, got a {type(thing).__name__}")
    return CallableDenoiser(thing)


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


class DiscreteTimeDenoiser(Denoiser):
    """A denoiser that knows the timesteps of a schedule: what several steps need.

    In [-1, 1] units, x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon.

    Attributes:
        schedule: noise schedule that gives abar_t.
    """

    schedule: DiffusionSchedule

    def start(self, sigma: float) -> NoiseMatch:
        """Where the reverse process starts for a sigma.

        Raises:
            ValueError: sigma <= 0, or beyond the schedule.
        """
        raise NotImplementedError

    def predict(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """x_0 in [-1, 1] from x_t (B, C, H, W), and the variance's weights where learned.

        The weights, (B, C, H, W), are as `AncestralStep.log_variance` takes them.
        """
        raise NotImplementedError

    def prepare_timesteps(self, timesteps: list[int]) -> list[nn.Module]:
        """As `prepare`, for these timesteps."""
        return []

    def noise_level(self, sigma: float) -> float:
        level = self.start(sigma).noise_level
        super().noise_level(sigma)
        return level

    def prepare(self, sigma: float) -> list[nn.Module]:
        return self.prepare_timesteps([self.start(sigma).timestep])

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        start = self.start(sigma)
        x_0, _ = self.predict((2 * noisy - 1) * start.scale, start.timestep)
        return (x_0 + 1) / 2


def _size(shape: Any) -> str:
    return " x ".join(map(str, shape))


def nan_where_infinite(x: Tensor) -> Tensor:
    """x, with NaN in place of infinities: unlike these it outlives clamps and exponentials."""
    return torch.where(x.isfinite(), x, torch.nan)
