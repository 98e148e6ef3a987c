"""MACER: maximising the certified radius."""

from typing import Any

import torch
from torch import Tensor

from diffsmooth.lit.ranges import above, at_least
from diffsmooth.lit.training.classifier import ClassifierTraining, Losses
from diffsmooth.stats.errors import UserError


class MacerTraining(ClassifierTraining):
    """The soft smoothed classifier's loss, plus a hinge on its certified radius where it is right.

    loss = -log F(x)_y + weight * sigma / 2 * (gamma - margin), F being the mean softmax over k
    noisy copies; margin = Phi^-1(p_1) - Phi^-1(p_2) of the two largest mean softmax answers at
    inverse temperature beta. The second term counts only for images that are answered rightly,
    with margin <= gamma.

    The network runs in float32 here, also under autocast, as in the published code: beta multiplies
    the rounding of bfloat16's logits, too. Float32 from the last layer on does not mend it.

    The published code takes one optimiser step for a loader's batch of B, on B * k rows. So does
    this: the batch size is the same.

    Args:
        k: noisy copies an image, at least 1.
        weight: what the radius counts (lambda), >= 0.
        gamma: margin from which on the radius is large enough, > 0.
        beta: inverse temperature of the softmax in the radius, > 0.
        deferred_epochs: lambda is 0 in so many first epochs, >= 0. In the re-implementation by
            Jeong & Shin it is so while the epoch, from 0, is at most the learning rate's step: in
            one epoch more than that step has (smoothing-consistency, code/train_macer.py).
        kwargs: see `ClassifierTraining`.

    Raises:
        ValueError: an argument out of range, or sigma = 0; see `ClassifierTraining`.
        UserError: when it is to be trained with weights of 16 bits.

    Source: Zhai et al. 2020, equations 6 and 7, algorithm 1, and the published code.
    """

    def __init__(
        self,
        k: int = 16,
        weight: float = 12.0,
        gamma: float = 8.0,
        beta: float = 16.0,
        deferred_epochs: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(1, k=k)
        at_least(0, weight=weight, deferred_epochs=deferred_epochs)
        above(0, gamma=gamma, beta=beta, sigma=self.hparams.sigma)

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.trainer.precision in ("bf16-true", "16-true"):
            raise UserError(
                f"--trainer.precision {self.trainer.precision} is not for MACER, whose network "
                "runs in float32: give 32-true, or a mixed one"
            )
        super().setup(stage)

    def losses(self, views: Tensor, labels: Tensor, generator: torch.Generator) -> Losses:
        copies = self.noisy_copies(views, self.hparams.k, generator)
        with torch.autocast(copies.device.type, enabled=False):
            logits = self.classifier(copies).float()
        logits = logits.unflatten(0, (-1, self.hparams.k))  # (B, k, K)
        smoothed = logits.softmax(dim=2).mean(dim=1)
        fit = -(smoothed.gather(1, labels[:, None]).squeeze(1) + 1e-10).log()
        is_deferred = self.current_epoch < self.hparams.deferred_epochs
        weight = 0.0 if is_deferred else self.hparams.weight
        self.log("train/radius_weight", fit.new_full((), weight))  # a number would be copied there
        if not weight:
            return Losses(fit, logits[:, 0])
        sharp = (self.hparams.beta * logits).softmax(dim=2).mean(dim=1)
        hinge = margin_hinge(sharp, labels, self.hparams.gamma)
        self.log("train/radius_loss", hinge.mean() * self.hparams.sigma / 2)
        return Losses(fit + weight * self.hparams.sigma / 2 * hinge, logits[:, 0])


def margin_hinge(p: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """gamma - margin (B,), 0 for wrong answers, for margins > gamma and for infinite ones.

    Args:
        p: mean softmax (B, K).
        labels: int64 (B,).
        gamma: > 0.
    """
    top, classes = p.topk(2, dim=1)
    with torch.no_grad():
        margin = torch.special.ndtri(top[:, 0]) - torch.special.ndtri(top[:, 1])
        counts = (classes[:, 0] == labels) & margin.isfinite() & (margin <= gamma)
    # Harmless values where it does not count: 0 times an infinite gradient is not a number.
    first, second = torch.where(counts, top[:, 0], 0.6), torch.where(counts, top[:, 1], 0.4)
    margin = torch.special.ndtri(first) - torch.special.ndtri(second)
    return torch.where(counts, gamma - margin, torch.zeros_like(margin))
