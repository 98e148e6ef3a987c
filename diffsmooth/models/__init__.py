"""Floor 1: what is smoothed. Networks, purifiers, local smoothing, votes, checkpoints."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.models.attacks.ddn import ddn_l2
    from diffsmooth.models.attacks.gradient_free import gradient_free_l2
    from diffsmooth.models.attacks.pgd import pgd_l2
    from diffsmooth.models.checkpoints.denoisers import load_denoiser, load_unet
    from diffsmooth.models.checkpoints.loading import load_classifier
    from diffsmooth.models.classifiers.architectures import build_classifier
    from diffsmooth.models.classifiers.input_layers import InputCenter, Normalize
    from diffsmooth.models.diffusion.denoiser import Denoiser
    from diffsmooth.models.diffusion.openai import build_denoiser, build_unet
    from diffsmooth.models.diffusion.schedule import DiffusionSchedule
    from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
    from diffsmooth.models.smoothing.purifiers import (
        IdentityPurifier,
        MultiStepPurifier,
        OneShotPurifier,
    )
    from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
