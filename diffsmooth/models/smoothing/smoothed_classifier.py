"""The smoothed classifier."""

from typing import Self

from torch import Tensor, nn

from diffsmooth.models.smoothing.engine import VoteEngine
from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
from diffsmooth.models.smoothing.noise import NoiseKey
from diffsmooth.models.smoothing.packing import Task
from diffsmooth.models.smoothing.purifiers import Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.stats import Certificate, MajorityVote, Plan


class SmoothedClassifier(nn.Module):
    """g(x): the class that f returns most often on x + sigma * eps, eps ~ N(0, I).

    It is in eval mode, whatever becomes of the modules that hold it. Arguments and errors are those
    of `VoteFunction`.

    Attributes:
        f: the `VoteFunction`. As a module it takes images that are noisy already to mean softmax
            (B, K), draws nothing, and is differentiable: what attacks and metrics use.
    """

    def __init__(
        self,
        purifier: Purifier,
        local_smoothing: LocalSmoothing,
        sigma: float,
        num_classes: int,
        batch: int = 50,
        precision: str = "float32",
        copy: bool = True,
    ) -> None:
        super().__init__()
        self.f = VoteFunction(purifier, local_smoothing, sigma, num_classes, batch, precision, copy)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: f is one fixed function of its input."""
        return super().train(False)

    def certify(self, image: Tensor, index: int, plan: Plan, seed: int = 0) -> Certificate:
        """Certificate of one image; errors as of `run_plan`.

        Args:
            image: (C, H, W) in [0, 1], on the CPU.
            index, seed: number of the image, and a seed: both name the votes' noise.
            plan: such as `FixedSampleSize(n0=100, n=10_000, alpha=0.001)`.
        """
        return self.run_plan(image, NoiseKey(seed, "certify", "", "", index), plan)

    def predict(self, image: Tensor, index: int, n: int, alpha: float, seed: int = 0) -> int:
        """Class of one image, or ABSTAIN; wrong about g(x) with probability at most `alpha`.

        Args:
            image, index, seed: see `certify`.
            n: votes, at least 1.
            alpha: in (0, 1).
        """
        key = NoiseKey(seed, "predict", "", "", index)
        return self.run_plan(image, key, MajorityVote(n, alpha)).prediction

    def run_plan(
        self, image: Tensor, key: NoiseKey, plan: Plan, label: int | None = None
    ) -> Certificate:
        """Drives a plan to its certificate, for one `Task`; see `VoteEngine` for many.

        Raises:
            ValueError: an image of another shape, not finite, or not in [0, 1].
            NetworkError: outputs that are not finite, or of another number of classes.
        """
        with VoteEngine(self.f, plan) as engine:
            engine.submit(Task(image, key, label))
            (finished,) = engine.drain()
        if finished.error is not None:
            raise finished.error
        assert finished.certificate is not None
        return finished.certificate
