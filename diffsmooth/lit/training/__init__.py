"""Training of base classifiers and diffusion models, one file a method."""

from diffsmooth.lit.training.diffusion import DiffusionTraining
from diffsmooth.lit.training.gaussian import GaussianTraining
from diffsmooth.lit.training.smoothadv import SmoothAdvTraining

__all__ = ["DiffusionTraining", "GaussianTraining", "SmoothAdvTraining"]
