"""The training losses of a diffusion model: of the noise alone, and with the variance learned."""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from diffsmooth.models.diffusion.schedule import AncestralStep, DiffusionSchedule, ancestral_step
from diffsmooth.models.diffusion.unet import UNet

LossKind = Literal["simple", "hybrid"]

LEVELS = 256  # of an 8-bit image
HALF_LEVEL = 1 / (LEVELS - 1)  # half the distance between two levels of an image in [-1, 1]
FAR = 50.0  # standard deviations, beyond which a level is as improbable as there
LAMBDA = 0.001  # of the hybrid loss


class LossTerms(NamedTuple):
    """What a training step lowers, of each image: all are (B,).

    Attributes:
        total: the loss.
        simple: mean squared error of epsilon.
        vlb: term of the variational bound, bits a pixel and channel; None for the simple loss.
    """

    total: Tensor
    simple: Tensor
    vlb: Tensor | None


class DiffusionLoss(nn.Module):
    """How well a U-Net predicts the noise, and for the hybrid loss its variance of x_{t-1}.

    simple: |epsilon - epsilon_theta(x_t, t)|^2; further output channels are not used.
    hybrid: simple + 0.001 L_vlb. L_vlb is the sum over all T timesteps, so that one drawn uniformly
    counts T times. It trains the variance alone: the mean in it passes no gradient on.

    Raises:
        ValueError: an unknown kind.

    Source: Ho et al. 2020, equation 14; Nichol & Dhariwal 2021, equations 4 to 7, 15 and 16.
    """

    abar: Tensor  # (T,)
    reverse: Tensor  # (T, 4), the fields of the `AncestralStep` from each t

    def __init__(self, schedule: DiffusionSchedule, kind: LossKind = "simple") -> None:
        super().__init__()
        if kind not in get_args(LossKind):
            raise ValueError(f"unknown loss {kind!r}: known are {', '.join(get_args(LossKind))}")
        self.kind = kind
        self.steps = schedule.steps
        abar = torch.from_numpy(schedule.alphas_cumprod).float()
        self.register_buffer("abar", abar, persistent=False)
        self.register_buffer("reverse", torch.tensor(_steps_down(schedule)), persistent=False)

    def forward(self, unet: UNet, images: Tensor, epsilon: Tensor, t: Tensor) -> LossTerms:
        """The loss at one timestep an image.

        Args:
            unet: with 2 C output channels for the hybrid loss.
            images: (B, C, H, W) in [0, 1]; of 256 levels for the hybrid loss.
            epsilon: standard normal, shaped like `images`.
            t: int64 (B,), timesteps.
        """
        x_0 = 2 * images - 1
        abar = self.abar[t].view(-1, 1, 1, 1)
        x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * epsilon
        output = unet(x_t, t * (1000.0 / self.steps)).float()
        predicted, learned = output.split([x_0.shape[1], output.shape[1] - x_0.shape[1]], dim=1)
        simple = (predicted - epsilon).square().mean(dim=(1, 2, 3))
        if self.kind == "simple":
            return LossTerms(simple, simple, None)
        predicted_x_0 = (x_t - (1 - abar).sqrt() * predicted.detach()) / abar.sqrt()
        vlb = self._bound(x_0, predicted_x_0, x_t, learned, t).mean(dim=(1, 2, 3))
        return LossTerms(simple + LAMBDA * self.steps * vlb, simple, vlb)

    def _bound(
        self, x_0: Tensor, predicted_x_0: Tensor, x_t: Tensor, learned: Tensor, t: Tensor
    ) -> Tensor:
        """L_{t-1}, or L_0 at t = 0, in bits, (B, C, H, W)."""
        step = AncestralStep(*self.reverse[t].view(-1, 4, 1, 1, 1).unbind(1))
        mean, log_variance = step.mean(predicted_x_0, x_t), step.log_variance(learned)
        assert isinstance(log_variance, Tensor)
        assert isinstance(step.log_small, Tensor)
        divergence = normal_kl(step.mean(x_0, x_t), step.log_small, mean, log_variance)
        likelihood = discretized_log_likelihood(x_0, mean, 0.5 * log_variance)
        first = (t == 0).view(-1, 1, 1, 1)
        return torch.where(first, -likelihood, divergence) / math.log(2)


def normal_kl(
    mean_q: Tensor, log_variance_q: Tensor, mean_p: Tensor, log_variance_p: Tensor
) -> Tensor:
    """KL(q || p) of two normals, elementwise, in nats."""
    difference = log_variance_q - log_variance_p
    distance = (mean_q - mean_p).square() * torch.exp(-log_variance_p)
    return 0.5 * (torch.expm1(difference) - difference + distance)


def discretized_log_likelihood(images: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log probability of each pixel's level under a normal, elementwise, in nats.

    A level is the interval half-way to its neighbours; the outermost two reach to infinity. A level
    beyond 50 standard deviations counts as if it were there, and has no gradient.

    All are (B, C, H, W); the images have 256 levels in [-1, 1].

    Source: Ho et al. 2020, equation 13.
    """
    scale = torch.exp(-log_deviation)
    offset = images - mean
    # Symmetry puts the interval into the lower tail, where the logarithm of Phi keeps its digits.
    upper = _log_phi((HALF_LEVEL - offset.abs()) * scale)
    lower = _log_phi((-HALF_LEVEL - offset.abs()) * scale)
    share = (lower - upper).clamp_max(-torch.finfo(images.dtype).eps)  # never log 0
    within = upper + torch.log(-torch.expm1(share))
    inwards = torch.where(images < 0, offset, -offset)
    outermost = _log_phi((HALF_LEVEL + inwards) * scale)
    return torch.where(images.abs() > 1 - HALF_LEVEL, outermost, within)


def _log_phi(x: Tensor) -> Tensor:
    # Its gradient in float32 is wrong by 4 % at -1000 and without meaning further out.
    return torch.special.log_ndtr(x.clamp_min(-FAR))


def _steps_down(schedule: DiffusionSchedule) -> list[AncestralStep]:
    """The steps from t to t - 1 for t = 0 .. T - 1."""
    down = [ancestral_step(schedule, t, t - 1) for t in range(1, schedule.steps)]
    # From t = 0 to the image itself: the posterior has no variance there, so its logarithm is
    # taken from the next step, as published.
    log_beta = math.log(schedule.betas[0])
    first = AncestralStep(1.0, 0.0, down[0].log_small if down else log_beta, log_beta)
    return [first, *down]
