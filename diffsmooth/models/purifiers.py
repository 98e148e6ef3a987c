"""Purifiers: noisy image to clean-looking image, by the reverse process of a diffusion model."""

import math

import torch
from torch import Tensor, nn

from diffsmooth.models.schedule import DiffusionSchedule
from diffsmooth.models.unet import UNet


class IdentityPurifier(nn.Module):
    """No purification: plain randomized smoothing (Cohen et al. 2019)."""

    def noise_level(self, sigma: float) -> float:
        """The standard deviation of the noise that it wants, [0, 1] pixel units: `sigma`."""
        return sigma

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        """Returns `noisy` (B, C, H, W) as it is, unclamped."""
        return noisy


class OneShotPurifier(nn.Module):
    """One reverse-diffusion jump from the timestep whose noise matches sigma.

    Args:
        unet: predicts epsilon; further output channels (a learned variance) are not used.
        schedule: the one that `unet` was trained on.

    Source: DiffSmooth (Zhang et al. 2023), section 4.1; Carlini et al. 2023, algorithm 2.
    """

    def __init__(self, unet: UNet, schedule: DiffusionSchedule) -> None:
        super().__init__()
        self.unet = unet
        self.schedule = schedule

    def noise_level(self, sigma: float) -> float:
        """The standard deviation of the noise that it wants, [0, 1] pixel units: `sigma`.

        Raises:
            ValueError: sigma <= 0, or beyond the schedule.
        """
        self.schedule.timestep(sigma)
        return sigma

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        """Purified images in [0, 1].

        Args:
            noisy: (B, C, H, W), image in [0, 1] plus `sigma` times standard normal noise.
            sigma: in [0, 1] pixel units.

        Raises:
            ValueError: sigma beyond the schedule.
        """
        t = self.schedule.timestep(sigma)
        abar = float(self.schedule.alphas_cumprod[t])
        time = torch.full((1,), self.schedule.network_time(t), device=noisy.device)
        x_t = (2 * noisy - 1) * math.sqrt(abar)
        epsilon = self.unet(x_t, time)[:, : noisy.shape[1]].float()
        x_0 = x_t / math.sqrt(abar) - math.sqrt(1 / abar - 1) * epsilon
        return (x_0.clamp(-1, 1) + 1) / 2
