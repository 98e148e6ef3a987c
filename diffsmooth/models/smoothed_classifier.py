"""The smoothed classifier: one code path for Cohen, diffusion denoised smoothing and DiffSmooth."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffsmooth.models.local_smoothing import LocalSmoothing
from diffsmooth.models.noise import NoiseKey, VoteNoise
from diffsmooth.models.precision import autocast
from diffsmooth.models.purifiers import Purifier
from diffsmooth.stats import Certificate, MajorityVote, Plan


class NetworkError(ValueError):
    """The networks' output cannot be a vote."""


DrawsOfRun = Callable[[int], Tensor | None]
"""From the number of a run to its draws (draws, B, C, H, W), or None."""

VotesDone = Callable[[int], None]
"""Told how many votes have just been cast."""


class SmoothedClassifier(nn.Module):
    """g(x): the class that f returns most often on x + sigma * eps, eps ~ N(0, I).

    f purifies the noisy image, averages the classifier's confidence over the local copies, and
    takes the argmax: one noisy image is one vote, whatever m is. With `IdentityPurifier`, m = 1
    and sigma_local = 0, f is the classifier alone (Cohen et al. 2019).

    Args:
        purifier: see `purifiers.py`.
        local_smoothing: holds the classifier.
        sigma: noise level, in [0, 1] pixel units; the radius is in the same units.
        num_classes: at least 2.
        batch: votes a forward pass. Every pass has this one shape (the last is padded), since
            kernels round differently at other shapes, and f must be one fixed function.
        precision: "float32", or "bf16" to autocast the layers.

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
        if precision not in ("float32", "bf16"):
            raise ValueError(f"precision must be float32 or bf16, got {precision!r}")
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
        with self._autocast(noisy):
            return self.local_smoothing(self.purifier(noisy, self.sigma, draws))

    def purify(self, noisy: Tensor, draws: Tensor | None = None) -> Tensor:
        """The purifier's images (B, C, H, W), float32, of noisy ones."""
        with self._autocast(noisy):
            return self.purifier(noisy, self.sigma, draws)

    def _autocast(self, noisy: Tensor) -> torch.autocast:
        return autocast(self.precision, noisy.device.type)

    def answer(self, noisy: Tensor, draws_of: DrawsOfRun) -> tuple[Tensor, Tensor]:
        """f: the class (B,) of each noisy image, and whether all outputs were finite (scalar).

        Args:
            noisy: (B, C, H, W).
            draws_of: gives a run's draws (draws, B, C, H, W), None where none are needed.
        """
        answers, finite = [], []
        for run in range(self.purifier.runs):
            confidence = self.confidence(noisy, draws_of(run))
            if confidence.shape[1] != self.num_classes:
                raise NetworkError(
                    f"the classifier has {confidence.shape[1]} classes, not {self.num_classes}"
                )
            answers.append(confidence.argmax(dim=1))
            finite.append(confidence.isfinite().all(dim=1))
        all_finite = torch.stack(finite).all(dim=0)
        if len(answers) == 1:
            return answers[0], all_finite
        ballots = F.one_hot(torch.stack(answers, dim=1), self.num_classes).sum(dim=1)
        return ballots.argmax(dim=1), all_finite  # ties go to the lowest class

    def add_noise(self, image: Tensor, noise: Tensor) -> Tensor:
        """image (C, H, W) plus standard normal noise (B, C, H, W) at the purifier's level."""
        return image + self.noise_level * noise

    @torch.inference_mode()
    def count_votes(
        self, image: Tensor, noise: VoteNoise, votes: int, done: VotesDone | None = None
    ) -> np.ndarray:
        """Votes a class, int64 (K,), of the next `votes` draws.

        Args:
            image: (C, H, W) in [0, 1].
            noise: of the votes; see `vote_noise`.
            votes: how many, at least 1.
            done: told the number of votes cast after each batch.

        Raises:
            NetworkError: an output that is not finite, or of another number of classes.
        """
        device = self.device
        image = image.to(device)
        counts = torch.zeros(self.num_classes, dtype=torch.int64, device=device)
        finite = torch.ones((), dtype=torch.bool, device=device)
        for start in range(0, votes, self.batch):
            size = min(self.batch, votes - start)
            own = self._to_device(noise.take(size), dim=0)

            def draws_of(run: int) -> Tensor | None:
                draws = noise.draws_of(run)
                return None if draws is None else self._to_device(draws, dim=1)

            answers, all_finite = self.answer(self.add_noise(image, own), draws_of)
            finite &= all_finite[:size].all()
            counts += torch.bincount(answers[:size], minlength=self.num_classes)
            if done is not None:
                done(size)
        # Not a number has an argmax, too: all votes for class 0, and the largest radius.
        if not finite:
            raise NetworkError("the networks' output is not finite")
        return counts.cpu().numpy()

    def _to_device(self, noise: Tensor, dim: int) -> Tensor:
        """Moves noise, its batch dimension `dim` filled up to the one forward shape."""
        missing = self.batch - noise.shape[dim]
        if missing:
            shape = (*noise.shape[:dim], missing, *noise.shape[dim + 1 :])
            noise = torch.cat([noise, noise.new_zeros(shape)], dim)
        if self.device.type == "cuda":
            noise = noise.pin_memory()
        return noise.to(self.device, non_blocking=True)

    def vote_noise(self, key: NoiseKey, stage: int, shape: tuple[int, ...]) -> VoteNoise:
        """The noise that the votes of a stage need."""
        return VoteNoise(key, stage, shape, self.purifier.draws)

    def run_plan(
        self,
        image: Tensor,
        key: NoiseKey,
        plan: Plan,
        label: int | None = None,
        done: VotesDone | None = None,
    ) -> Certificate:
        """Drives a plan to its certificate.

        Args:
            image: (C, H, W) in [0, 1].
            key: of the image's noise.
            plan: how many votes to ask for.
            label: true class, for plans that use it.
            done: told the number of votes cast after each batch.

        Raises:
            ValueError: an image that is not finite or leaves [0, 1].
        """
        check_image(image, key.image)
        run = plan.start(self.sigma, self.num_classes, label)
        while run.wanted:
            noise = self.vote_noise(key, run.stage, tuple(image.shape))
            run.update(self.count_votes(image, noise, run.wanted, done))
        return run.certificate

    def certify(self, image: Tensor, index: int, plan: Plan, seed: int = 0) -> Certificate:
        """Prediction and certified radius of one image.

        Args:
            image: (C, H, W) in [0, 1].
            index: of the image: images of other indices get other noise.
            plan: such as `FixedSampleSize()`.
            seed: of the votes' noise.

        Raises:
            ValueError: an image that is not finite or leaves [0, 1].
        """
        return self.run_plan(image, NoiseKey(seed, "certify", "", "", index), plan)

    def predict(self, image: Tensor, index: int, n: int, alpha: float, seed: int = 0) -> int:
        """Class of one image, or ABSTAIN; wrong about g(x) with probability at most `alpha`.

        Args:
            image: (C, H, W) in [0, 1].
            index: of the image.
            n: votes, at least 1.
            alpha: in (0, 1).
            seed: of the votes' noise.
        """
        key = NoiseKey(seed, "predict", "", "", index)
        return self.run_plan(image, key, MajorityVote(n, alpha)).prediction


def check_image(image: Tensor, index: int) -> None:
    """Raises ValueError unless the image's values are finite and in [0, 1]."""
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image {index} must lie in [0, 1], its values range from {low} to {high}")
