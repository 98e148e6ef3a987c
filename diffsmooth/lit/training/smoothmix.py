"""SmoothMix."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffsmooth.lit.ranges import above, at_least
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses, ramp
from diffsmooth.models.attacks import ascent_l2
from diffsmooth.models.attacks.target import project


class SmoothMixTraining(ClassifierTraining):
    """Gaussian augmentation, plus mixes of an image with an adversarial one, of uncertain label.

    loss = mean_i CE(f(x + sigma eps_i), y)
    + eta * [F(x) is right] * mean_i KL(y_mix || f(x_mix + sigma eps_i)),
    x_mix = (1 - lambda) x + lambda x_adv, y_mix = (1 - lambda) F(x) + lambda / K,
    lambda ~ U[0, 1/2] for each image, F being the mean softmax over the m copies. x_adv comes from
    `steps` steps of length alpha up the loss of F, without a bound. The noise is the same in all
    terms, and eta grows linearly over the warm-up.

    With mix_step > 0 (1 is the published "one-step adversary"), x stands in all of this, F and
    "right" included, for where the attack is after its first mix_step steps, drawn back to within
    alpha * mix_step of the image, times the warm-up; x_adv is where it ends, without a warm-up.

    Batches are the published ones as in `ConsistencyTraining`; a step has B rows more, the mixes.

    Args:
        m: noisy copies an image, at least 1.
        eta: weight of the mixes, >= 0.
        steps: the attack's steps (T), at least 1.
        alpha: length of its steps, > 0, l2, in [0, 1] pixel units.
        warmup_epochs: over which eta, and the bound of the first steps, grow, >= 0.
        mix_step: steps of the attack after which the clean side of the mix is taken, in
            0 .. steps - 1; 0: the image itself.
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: an argument out of range; see `ClassifierTraining`.

    Source: Jeong et al. 2021, equations 6 to 10, and the published code.
    """

    def __init__(
        self,
        m: int = 2,
        eta: float = 5.0,
        steps: int = 4,
        alpha: float = 0.5,
        warmup_epochs: int = 10,
        mix_step: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(1, m=m, steps=steps)
        at_least(0, eta=eta, warmup_epochs=warmup_epochs)
        above(0, alpha=alpha)
        if not 0 <= mix_step < steps:
            raise ValueError(f"mix_step must be in 0 .. {steps - 1} (steps - 1), got {mix_step}")

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        images, m = views[:, 0], self.hparams.m
        noise = self.noise(images.repeat_interleave(m, dim=0), generator)  # (B * m, C, H, W)
        warm = ramp(self.current_epoch, self.hparams.warmup_epochs)
        images, adversarial = self._attack(images, labels, noise, warm)
        share = torch.rand(len(images), device=images.device, generator=generator) / 2
        mixed = torch.lerp(images, adversarial, share.view(-1, 1, 1, 1))

        logits = self._answers(images, noise)
        fit = F.cross_entropy(
            logits.flatten(0, 1), labels.repeat_interleave(m), reduction="none"
        ).unflatten(0, (-1, m))
        smoothed = logits.softmax(dim=2).mean(dim=1)
        uniform = torch.full_like(smoothed, 1 / smoothed.shape[1])
        target = torch.lerp(smoothed, uniform, share[:, None])
        log_p = self._answers(mixed, noise).log_softmax(dim=2)
        mix = F.kl_div(log_p, target[:, None].expand_as(log_p), reduction="none").sum(dim=2)
        right = smoothed.argmax(dim=1) == labels
        each = fit.mean(dim=1) + self.hparams.eta * warm * right * mix.mean(dim=1)
        return Losses(each, logits[:, 0])

    def _attack(
        self, images: Tensor, labels: Tensor, noise: Tensor, warm: float
    ) -> tuple[Tensor, Tensor]:
        """Both sides of the mix, each (B, C, H, W), in [0, 1].

        Args:
            images: (B, C, H, W), in [0, 1].
            labels: int64 (B,).
            noise: (B * m, C, H, W).
            warm: the share of the bound of the first steps.
        """
        start, clean, first = images, images, self.hparams.mix_step
        m, alpha, rest = self.hparams.m, self.hparams.alpha, self.hparams.steps - first
        with self.attacked_network() as network:
            if first:
                start = ascent_l2(network, images, labels, alpha, first, noise, m)
                bound = alpha * first * warm
                clean = (images + project(start - images, bound)).clamp(0, 1)
            # Without a bound, an attack that goes on from where it is is the same attack.
            adversarial = ascent_l2(network, start, labels, alpha, rest, noise, m)
        return clean, adversarial

    def _answers(self, images: Tensor, noise: Tensor) -> Tensor:
        """Logits (B, m, K), float32, under the noise (B * m, C, H, W)."""
        noisy = images.repeat_interleave(self.hparams.m, dim=0) + noise
        return self.classifier(noisy).float().unflatten(0, (-1, self.hparams.m))
