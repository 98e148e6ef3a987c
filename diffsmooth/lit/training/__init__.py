"""Training of base classifiers and diffusion models, one file a method."""

from diffsmooth.lit.training.consistency import ConsistencyTraining
from diffsmooth.lit.training.diffusion import DiffusionTraining
from diffsmooth.lit.training.gaussian import GaussianTraining
from diffsmooth.lit.training.macer import MacerTraining
from diffsmooth.lit.training.smoothadv import SmoothAdvTraining
from diffsmooth.lit.training.smoothmix import SmoothMixTraining
from diffsmooth.lit.training.stability import StabilityTraining

__all__ = [
    "ConsistencyTraining",
    "DiffusionTraining",
    "GaussianTraining",
    "MacerTraining",
    "SmoothAdvTraining",
    "SmoothMixTraining",
    "StabilityTraining",
]
