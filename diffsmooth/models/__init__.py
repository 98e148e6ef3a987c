"""Floor 1: what is smoothed. Networks, purifiers, local smoothing, votes, checkpoints."""

from diffsmooth.models.attacks import ddn_l2, gradient_free_l2, pgd_l2
from diffsmooth.models.checkpoints.denoisers import load_denoiser, load_unet
from diffsmooth.models.checkpoints.loading import load_classifier
from diffsmooth.models.classifiers.architectures import build_classifier
from diffsmooth.models.classifiers.input_layers import InputCenter, Normalize
from diffsmooth.models.diffusion.denoiser import Denoiser
from diffsmooth.models.diffusion.presets import build_denoiser, build_unet
from diffsmooth.models.diffusion.schedule import DiffusionSchedule
from diffsmooth.models.smoothing.local_smoothing import LocalSmoothing
from diffsmooth.models.smoothing.purifiers import (
    IdentityPurifier,
    MultiStepPurifier,
    OneShotPurifier,
)
from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier

__all__ = [
    "Denoiser",
    "DiffusionSchedule",
    "IdentityPurifier",
    "InputCenter",
    "LocalSmoothing",
    "MultiStepPurifier",
    "Normalize",
    "OneShotPurifier",
    "SmoothedClassifier",
    "build_classifier",
    "build_denoiser",
    "build_unet",
    "ddn_l2",
    "gradient_free_l2",
    "load_classifier",
    "load_denoiser",
    "load_unet",
    "pgd_l2",
]
