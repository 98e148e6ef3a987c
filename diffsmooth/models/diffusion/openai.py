"""OpenAI's family of denoisers: a U-Net that predicts the noise, and the schedule it belongs to."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.diffusion.denoiser import (
    DiscreteTimeDenoiser,
    NoiseMatch,
    nan_where_infinite,
)
from diffsmooth.models.diffusion.presets import get_preset, unet_config
from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.models.diffusion.unet import UNet
from diffsmooth.models.words import Convention


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


class OpenAIDenoiser(DiscreteTimeDenoiser):
    """A U-Net of improved-diffusion or guided-diffusion with its schedule.

    Args:
        unet: predicts epsilon; of further output channels (a learned variance) only several steps
            make use.
        schedule: noise schedule that `unet` was trained on.
        convention: see `match_noise`.
        pad_to: side in pixels to which images are reflect-padded for the U-Net, and cropped again;
            None runs it at the images' own size.
        max_sigma: largest sigma that `unet` was trained for; None: the schedule's.

    Raises:
        ValueError: an unknown convention.

    Source: the published code of DiffSmooth (cifar_ddpm.py and imagenet_gdm.py of
    javyduck/DiffSmooth; Zhang et al. 2023) and of Carlini et al. 2023 (DRM.py).
    """

    def __init__(
        self,
        unet: UNet,
        schedule: DiffusionSchedule,
        convention: Convention = "diffsmooth",
        pad_to: int | None = None,
        max_sigma: float | None = None,
    ) -> None:
        super().__init__()
        match_noise(schedule, schedule.max_sigma, convention)  # knows the word
        self.unet = unet
        self.schedule = schedule
        self.convention: Convention = convention
        self.pad_to = pad_to
        self.max_sigma = min(schedule.max_sigma, math.inf if max_sigma is None else max_sigma)
        self._conditions: dict[int, list[Tensor]] = {}

    def start(self, sigma: float) -> NoiseMatch:
        return match_noise(self.schedule, sigma, self.convention)

    def check_images(self, shape: tuple[int, int, int]) -> None:
        config, (channels, height, width) = self.unet.config, shape
        if channels != config.in_channels:
            raise ValueError(
                f"takes images whose number of channels is {config.in_channels}, not {channels}"
            )
        multiple = 2 ** (len(config.channel_mult) - 1)
        if self.pad_to is None and (height % multiple or width % multiple):
            raise ValueError(
                f"takes images whose sides are multiples of {multiple}, not {height} x {width}: "
                f"--pad reflect pads smaller images than the {config.image_size} x "
                f"{config.image_size} it was made for; or choose a size (resized, the noise would "
                "not be the noise that it was trained on)"
            )
        # A reflection is smaller than the image on each side.
        if self.pad_to and not max(height, width) <= self.pad_to < 3 * min(height, width) - 2:
            raise ValueError(
                f"pad reflect: images of {height} x {width} cannot be padded to its {self.pad_to}"
            )

    def prepare_timesteps(self, timesteps: list[int]) -> list[nn.Module]:
        """What the U-Net is told of the timesteps is computed once."""
        device = next(self.unet.parameters()).device
        self._conditions = {t: self.unet.conditions(self._time(t, device)) for t in timesteps}
        return [self.unet]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What was computed once goes to another device or number format with the weights.
        for t, conditions in self._conditions.items():
            self._conditions[t] = [fn(condition) for condition in conditions]
        return super()._apply(fn, recurse)

    def predict(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        times = self._time(t, x_t.device)
        known = [self._conditions[t]] if t in self._conditions else []
        channels, height, width = x_t.shape[1:]
        rows, columns = ((self.pad_to or side) - side for side in (height, width))
        top, left = rows // 2, columns // 2
        around = (left, columns - left, top, rows - top)
        x = F.pad(x_t, around, mode="reflect") if any(around) else x_t
        output = self.unet(x, times, *known)[:, :, top : top + height, left : left + width]
        output = nan_where_infinite(output.to(x_t.dtype))
        abar = float(self.schedule.alphas_cumprod[t])
        epsilon = output[:, :channels]
        x_0 = x_t / math.sqrt(abar) - math.sqrt(1 / abar - 1) * epsilon
        learned = output[:, channels:] if output.shape[1] > channels else None
        return nan_where_infinite(x_0).clamp(-1, 1), learned

    def _time(self, t: int, device: torch.device) -> Tensor:
        # Of length 1: the time is embedded once, not for each vote.
        return torch.full((1,), self.schedule.network_time(t), device=device)


def build_unet(preset: str, **overrides: Any) -> UNet:
    """A U-Net with fresh weights; arguments and errors as of `unet_config`."""
    return UNet(unet_config(preset, **overrides))


def build_denoiser(preset: str, **overrides: Any) -> OpenAIDenoiser:
    """A U-Net with fresh weights, and its schedule; arguments and errors as of `build_unet`."""
    return OpenAIDenoiser(build_unet(preset, **overrides), get_preset(preset).schedule)
