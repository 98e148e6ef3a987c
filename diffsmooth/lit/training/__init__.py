"""Training of base classifiers and diffusion models, one file a method."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.lit.training.averaging import AverageWeights
    from diffsmooth.lit.training.consistency import ConsistencyTraining
    from diffsmooth.lit.training.diffusion import DiffusionTraining
    from diffsmooth.lit.training.gaussian import GaussianTraining
    from diffsmooth.lit.training.macer import MacerTraining
    from diffsmooth.lit.training.smoothadv import SmoothAdvTraining
    from diffsmooth.lit.training.smoothmix import SmoothMixTraining
    from diffsmooth.lit.training.stability import StabilityTraining
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
