"""The smoothed classifier."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffsmooth.models.classifiers.logits import Logits
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.smoothing.called_modules import check_called
from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
from diffsmooth.models.smoothing.precision import resolve_precision
from diffsmooth.models.smoothing.purifiers import IdentityPurifier, OneShotPurifier, Purifier
from diffsmooth.models.smoothing.vote_function import VoteFunction


class SmoothedClassifier(nn.Module):
    """g(x): the class that f returns most often on x + sigma * eps, eps ~ N(0, I).

    `diffsmooth.certify` and `diffsmooth.predict` let it vote. It is in eval mode, whatever becomes
    of the modules that hold it, and begins on the classifier's device.

    Args:
        classifier: images (B, C, H, W) in [0, 1] to logits (B, K), or to what holds them as
            `.logits`; a module, or any other callable, which stays its owner's: what it calls is
            neither copied nor moved, and must be in eval mode.
        denoiser: a `Denoiser`, a `Purifier`, any callable (noisy, sigma) -> x_0, or None.
        sigma, num_classes, batch: see `VoteFunction`.
        m, sigma_local, image_shape: see `LocalSmoothing`.
        precision: "float32", "tf32", "bf16", or "auto": bf16 where the device computes in it.
        copy: whether the networks are copied, so that their owner's stay as they are. Otherwise
            they are put into eval mode, on one device, and in another memory format; `certify`
            copies them all the same.
        local_seed: of the local copies' fixed noise.

    Attributes:
        f: the `VoteFunction`. As a module it takes images that are noisy already to mean softmax
            (B, K), draws nothing, and is differentiable: what attacks and metrics use.
        precision: as it was asked for; f has what it is on its device.
        local_seed: as it was given.

    Raises:
        ValueError: out of range, see `VoteFunction` and `LocalSmoothing`; a denoiser that takes
            other images.
        UserError: what cannot be called or copied, or is a function of a network in train mode; or
            a word that is no precision.
    """

    def __init__(
        self,
        classifier: Callable[[Tensor], Any],
        denoiser: Denoiser | Purifier | Callable[[Tensor, float], Tensor] | None = None,
        sigma: float = 0.5,
        num_classes: int = 10,
        m: int = 1,
        sigma_local: float = 0.0,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        batch: int = 200,
        precision: str = "auto",
        copy: bool = True,
        local_seed: int = 42,
    ) -> None:
        super().__init__()
        self.precision = "auto" if precision == "auto" else resolve_precision(precision, "cuda")
        self.local_seed = local_seed
        check_called(classifier, "classifier")
        check_called(denoiser, "denoiser")
        network = Logits(classifier)
        purifier = _purifier_of(denoiser)
        local = LocalSmoothing(network, m, sigma_local, image_shape, local_seed)
        if isinstance(purifier, OneShotPurifier):
            purifier.denoiser.check_images(local.image_shape)
        self.f = VoteFunction(
            purifier, local, sigma, num_classes, batch, self.precision_on("cpu"), copy
        )
        self.to(next((p.device for p in network.parameters()), torch.device("cpu")))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: f is one fixed function of its input."""
        return super().train(False)

    def precision_on(self, device_type: str) -> str:
        """The precision, where "auto" is resolved for a type of device.

        Raises:
            UserError: see `resolve_precision`.
        """
        return (
            self.precision if self.precision != "auto" else resolve_precision("auto", device_type)
        )

    def _apply(self, *args: Any, **kwargs: Any) -> Self:  # of every way to another device
        super()._apply(*args, **kwargs)
        self.f.precision = self.precision_on(self.f.device.type)
        return self


def _purifier_of(denoiser: Any) -> Purifier:
    if denoiser is None:
        return IdentityPurifier()
    return denoiser if isinstance(denoiser, Purifier) else OneShotPurifier(denoiser)
