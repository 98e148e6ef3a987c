"""What the attacks share: the model under its noise, and steps in the l2 ball.

Nothing here mixes images: an image's result does not depend on the batch that it is in.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.stats.bounds import count_of

OUT_OF_RANGE = "images must lie in [0, 1]"
_noted: ContextVar[list[Tensor] | None] = ContextVar("_noted", default=None)


@contextmanager
def noted_ranges() -> Iterator[list[Tensor]]:
    """Within it no attack waits for the device to say whether its images lie in [0, 1].

    Whoever looks later, and raises ValueError then, gets a bool () of each attack.
    """
    noted: list[Tensor] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


@dataclass(frozen=True)
class Target:
    """A model under fixed noise, and the images to attack.

    Attributes:
        model: images (B, C, H, W) to logits (B, K); its mode and parameters are left alone.
        images: (B, C, H, W), in [0, 1].
        labels: int64 (B,).
        noise: (B * samples, C, H, W), image-major, in [0, 1] pixel units; None: no noise.
        samples: noise vectors an image, at least 1; without noise one forward pass stands for all.

    Raises:
        ValueError: samples < 1, images that leave [0, 1], or shapes that do not fit.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    noise: Tensor | None
    samples: int

    def __post_init__(self) -> None:
        count_of("samples", self.samples)
        shape = tuple(self.images.shape)
        if len(shape) != 4:
            raise ValueError(f"images must be (B, C, H, W), got {shape}")
        if self.labels.shape != shape[:1]:
            raise ValueError(f"labels must be {shape[:1]}, got {tuple(self.labels.shape)}")
        wanted = (shape[0] * self.samples, *shape[1:])
        if self.noise is not None and self.noise.shape != wanted:
            raise ValueError(f"noise must be {wanted}, got {tuple(self.noise.shape)}")
        in_range, noted = ((self.images >= 0) & (self.images <= 1)).all(), _noted.get()
        if noted is not None:
            noted.append(in_range)
        elif not in_range:
            raise ValueError(OUT_OF_RANGE)

    def logits(self, delta: Tensor) -> Tensor:
        """Logits (B, samples, K), float32, of images + delta + noise; (B, 1, K) without noise."""
        adversarial = self.images + delta
        if self.noise is None:
            return self.model(adversarial).float()[:, None]
        noisy = adversarial.repeat_interleave(self.samples, dim=0) + self.noise
        return self.model(noisy).float().unflatten(0, (-1, self.samples))

    def gradient(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (B, C, H, W) of each image's `smoothed_nll` at `delta`, and the logits there."""
        with torch.enable_grad(), _in_range(delta.device.type):
            delta = delta.detach().requires_grad_()
            logits = self.logits(delta)
            loss = smoothed_nll(logits, self.labels).sum()
            # With respect to delta alone: the parameters' gradients are not touched.
            (gradient,) = torch.autograd.grad(loss, delta)
        return gradient, logits.detach()


def _in_range(device: str) -> AbstractContextManager[object]:
    """Float32 where autocast would take float16, to whose scale of losses gradients must fit.

    They do not: of a confident model they underflow to zero, and a zero gradient is a random step.
    """
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return torch.autocast(device, enabled=False)
    return nullcontext()


def smoothed_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the mean softmax at the label (B,), of logits (B, samples, K).

    Source: SmoothAdv, Salman et al. 2019, section 2.
    """
    index = labels[:, None, None].expand(-1, logits.shape[1], 1)
    log_p = F.log_softmax(logits, dim=2).gather(2, index).squeeze(2)  # (B, samples)
    return math.log(logits.shape[1]) - log_p.logsumexp(dim=1)


def check_budget(epsilon: float, steps: int) -> None:
    """Raises ValueError unless epsilon > 0 (and finite) and steps >= 1."""
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be > 0 and finite, got {epsilon}")
    count_of("steps", steps)


def l2_norms(x: Tensor) -> Tensor:
    """The l2 norm (B, 1, 1, 1) of each x (B, C, H, W)."""
    return torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)


def unit_directions(gradients: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each gradient (B, C, H, W) scaled to norm 1; a zero gradient becomes a random draw.

    The draw is standard normal and is not scaled, as published: in d dimensions its norm is about
    sqrt(d), so that a step goes to the border of the ball.

    Source: PGD_L2 and DDN, Salman et al. 2019 (smoothing-adversarial, code/attacks.py).
    """
    # Drawn whether needed or not, and one for all: so no image's result depends on another's.
    draw = torch.randn(gradients.shape[1:], device=gradients.device, generator=generator)
    largest = gradients.abs().amax(dim=(1, 2, 3), keepdim=True)
    # Where the squares of a confident model's gradients underflow, by the largest entry first; not
    # elsewhere, since long attacks amplify rounding and the published code just divides.
    scaled = torch.where(largest > 1e-15, gradients, gradients / largest)
    return torch.where(largest > 0, scaled / l2_norms(scaled), draw)


def damped_directions(gradients: Tensor, damping: float) -> Tensor:
    """Each gradient (B, C, H, W) over its norm plus `damping` > 0: a zero gradient stays zero.

    Source: SmoothMix_PGD and SmoothAdv_PGD, Jeong et al. (smoothmix, code/train.py;
    smoothing-consistency, code/train_consistency.py).
    """
    return gradients / (l2_norms(gradients) + damping)


def project(delta: Tensor, epsilon: float) -> Tensor:
    """Each delta (B, C, H, W), scaled down to norm `epsilon` where it is longer."""
    return delta * (epsilon / l2_norms(delta)).clamp_max(1)


def ascend(images: Tensor, delta: Tensor, directions: Tensor, epsilon: float, steps: int) -> Tensor:
    """delta after one of `steps` steps of length 2 epsilon / steps, kept in [0, 1] and the ball."""
    # In the order of the published code: long attacks amplify rounding.
    stepped = (delta + (2 * epsilon / steps) * directions) + images
    return project(stepped.clamp(0, 1) - images, epsilon)
