"""Adversarial training of smoothed classifiers."""

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from diffsmooth.lit.ranges import at_least
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses, ramp
from diffsmooth.models.attacks import ddn_l2, gradient_free_l2, pgd_l2

Attack = Literal["pgd", "ddn", "gradient_free"]
ATTACKS = {"pgd": pgd_l2, "ddn": ddn_l2, "gradient_free": gradient_free_l2}


class SmoothAdvTraining(ClassifierTraining):
    """Cross-entropy on adversarial images of the smoothed classifier, plus the attack's own noise.

    Each image gets m_train noise vectors. The attack, in eval mode, sees all of them; the update
    has the same ones, so that it trains on the very points that were attacked.

    The published code cuts a loader's batch of B images into m_train parts, and attacks each with
    m_train noise vectors an image: B rows a pass. With train_multi_noise it takes an optimiser step
    on each part: m_train steps, each on B / m_train images and B rows. Without, it takes one step
    on all B images, one row an image. Here a step is a loader's batch: for the same updates set its
    batch size to B / m_train with train_multi_noise, and to B without.

    Args:
        attack: "pgd", "ddn" or "gradient_free".
        epsilon: l2 budget of the attack, > 0, in [0, 1] pixel units.
        steps: the attack's steps (T), at least 1.
        m_train: noise vectors an image, at least 1.
        train_multi_noise: the update has m_train rows an image; otherwise one, its first vector.
        warmup_epochs: over which epsilon grows linearly, >= 0; see `epsilon_at`.
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: an argument out of range; gradient_free with sigma = 0 or m_train = 1; see
            `ClassifierTraining`.

    Source: SmoothAdv, Salman et al. 2019, pseudocode 1, and the published code.
    """

    def __init__(
        self,
        attack: Attack = "pgd",
        epsilon: float = 0.25,
        steps: int = 2,
        m_train: int = 1,
        train_multi_noise: bool = False,
        warmup_epochs: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if attack not in ATTACKS:
            raise ValueError(f"unknown attack {attack!r}: known are {', '.join(ATTACKS)}")
        if not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon must be > 0 and finite, got {epsilon}")
        at_least(1, steps=steps, m_train=m_train)
        at_least(0, warmup_epochs=warmup_epochs)
        if attack == "gradient_free" and self.hparams.sigma == 0:
            raise ValueError("attack gradient_free needs sigma > 0, got 0")
        if attack == "gradient_free" and m_train == 1:
            raise ValueError(
                "attack gradient_free needs m_train of at least 2, got 1: with one noise vector "
                "its direction does not depend on the network"
            )

    def epsilon_at(self, epoch: int) -> float:
        """The budget in an epoch (from 0): (epoch + 1) / warmup_epochs of epsilon, at most all."""
        return self.hparams.epsilon * ramp(epoch, self.hparams.warmup_epochs)

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        images, m = views[:, 0], self.hparams.m_train
        noise = self.noise(images.repeat_interleave(m, dim=0), generator)  # (B * m, C, H, W)
        with self.attacked_network():
            adversarial = self.perturb(images, labels, noise, generator)
            if self._is_logged():
                success = self._attack_success(images, adversarial, labels, noise)
                self.log("train/attack_success", success)
        if not self.hparams.train_multi_noise:
            logits = self.classifier(adversarial + noise[::m])
            return Losses(F.cross_entropy(logits, labels, reduction="none"), logits)
        logits = self.classifier(adversarial.repeat_interleave(m, dim=0) + noise)
        each = F.cross_entropy(logits, labels.repeat_interleave(m), reduction="none")
        return Losses(each.unflatten(0, (-1, m)).mean(dim=1), logits[::m])

    def perturb(
        self, images: Tensor, labels: Tensor, noise: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Adversarial images (B, C, H, W), in [0, 1], within this epoch's epsilon.

        Args:
            images: (B, C, H, W), in [0, 1].
            labels: int64 (B,).
            noise: (B * m_train, C, H, W), image-major, scaled to sigma.
            generator: the random stream of steps where a gradient is zero.
        """
        m = self.hparams.m_train
        attack = functools.partial(
            ATTACKS[self.hparams.attack],
            self.classifier,
            epsilon=self.epsilon_at(self.current_epoch),  # DDN's first norm, too, as published
            steps=self.hparams.steps,
            samples=m,
            generator=generator,
        )
        # About B rows a pass, however many noise vectors there are. With train_multi_noise the
        # update needs memory for all B * m_train rows anyway.
        part = len(images) if self.hparams.train_multi_noise else math.ceil(len(images) / m)
        parts = zip(images.split(part), labels.split(part), noise.split(part * m), strict=True)
        return torch.cat([attack(x, y, noise=own) for x, y, own in parts])

    def _is_logged(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    @torch.no_grad()
    def _attack_success(
        self, images: Tensor, adversarial: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Of the images whose smoothed prediction was right, the share that the attack made wrong.

        The smoothed prediction is the argmax of the mean softmax over the image's noise vectors.
        """

        m = self.hparams.m_train

        def is_right(x: Tensor) -> Tensor:
            logits = self.classifier(x.repeat_interleave(m, dim=0) + noise).float()
            mean = logits.softmax(dim=1).unflatten(0, (-1, m)).mean(dim=1)
            return mean.argmax(dim=1) == labels

        before, after = is_right(images), is_right(adversarial)
        return (before & ~after).sum() / before.sum().clamp_min(1)
