"""What votes: one code path for Cohen, diffusion denoised smoothing and DiffSmooth."""

import math
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.local_smoothing import LocalSmoothing
from diffsmooth.models.precision import Precision, autocast
from diffsmooth.models.purifiers import Purifier
from diffsmooth.stats.errors import UserError


class NetworkError(UserError):
    """The networks' output cannot be votes."""


DrawsOfRun = Callable[[int], Tensor | None]
"""From the number of a run to its draws (draws, B, C, H, W), or None."""


class VoteFunction(nn.Module):
    """f: noisy images to classes, one vote each.

    It purifies the noisy image, averages the classifier's confidence over the local copies, and
    takes the argmax: one noisy image is one vote, whatever m is. With `IdentityPurifier`, m = 1
    and sigma_local = 0, f is the classifier alone (Cohen et al. 2019).

    Args:
        purifier: see `purifiers.py`.
        local_smoothing: holds the classifier.
        sigma: noise level, in [0, 1] pixel units; the radius is in the same units.
        num_classes: at least 2.
        batch: votes a forward pass. Every pass has this one shape (the last is padded), since
            kernels round differently at other shapes, and f must be one fixed function.
        precision: "float32", or "bf16" to autocast the layers; "tf32" is float32 here, see
            `fix_numerics`.

    Raises:
        ValueError: sigma <= 0 or beyond the purifier's schedule; num_classes < 2; batch < 1;
            unknown precision.
    """

    def __init__(
        self,
        purifier: Purifier,
        local_smoothing: LocalSmoothing,
        sigma: float,
        num_classes: int,
        batch: int = 50,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be > 0 and finite, got {sigma}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be float32, tf32 or bf16, got {precision!r}")
        self.noise_level = purifier.noise_level(sigma)
        self.purifier = purifier
        self.local_smoothing = local_smoothing
        self.sigma = sigma
        self.num_classes = num_classes
        self.batch = batch
        self.precision = precision
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.local_smoothing.noise.device

    def confidence(self, noisy: Tensor, draws: Tensor | None = None) -> Tensor:
        """Mean softmax (B, K) of noisy images (B, C, H, W), image + noise level * normal.

        Args:
            noisy: the images.
            draws: what a random purifier needs for one run, see `Purifier.forward`.
        """
        with self.autocast():
            return self.local_smoothing(self.purifier(noisy, self.sigma, draws))

    def purify(self, noisy: Tensor, draws: Tensor | None = None) -> Tensor:
        """The purifier's images (B, C, H, W), float32, of noisy ones."""
        with self.autocast():
            return self.purifier(noisy, self.sigma, draws)

    def autocast(self) -> torch.autocast:
        """The context in which its networks run."""
        return autocast(self.precision, self.device.type)

    def answer(self, noisy: Tensor, draws_of: DrawsOfRun) -> Tensor:
        """f: the class (B,) of each noisy image, int64; K where an output is not finite.

        Not a number has an argmax, too: all votes for class 0, and the largest radius.

        Args:
            noisy: (B, C, H, W).
            draws_of: gives a run's draws (draws, B, C, H, W), None where none are needed.

        Raises:
            NetworkError: outputs for another number of classes.
        """
        return self.vote(lambda run: self.confidence(noisy, draws_of(run)))

    def vote(self, confidence_of: Callable[[int], Tensor]) -> Tensor:
        """From the confidence of each run to answers, as `answer` gives them: (..., B), int64.

        Args:
            confidence_of: from the number of a run to its mean softmax (..., B, K).

        Raises:
            NetworkError: outputs for another number of classes.
        """
        answers = []
        for run in range(self.purifier.runs):
            confidence = confidence_of(run)
            if confidence.shape[-1] != self.num_classes:
                raise NetworkError(
                    f"the classifier has {confidence.shape[-1]} classes, not {self.num_classes}"
                )
            finite = confidence.isfinite().all(dim=-1)
            answers.append(torch.where(finite, confidence.argmax(dim=-1), self.num_classes))
        if len(answers) == 1:
            return answers[0]
        runs = torch.stack(answers, dim=-1)
        ballots = F.one_hot(runs, self.num_classes + 1).sum(dim=-2)
        majority = ballots[..., :-1].argmax(dim=-1)  # ties go to the lowest class
        return torch.where(ballots[..., -1] > 0, self.num_classes, majority)
