"""DiffSmooth: certified robustness by diffusion purification and local smoothing."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

__version__ = "0.3.0"

if TYPE_CHECKING:
    from diffsmooth.models.checkpoints.denoisers import load_denoiser
    from diffsmooth.models.checkpoints.loading import load_classifier
    from diffsmooth.models.smoothing.smoothed_classifier import SmoothedClassifier
    from diffsmooth.pipeline.python_calls import certify, predict
    from diffsmooth.report.figures import plot
    from diffsmooth.runs.reading import read_results
    from diffsmooth.stats.curves import average_certified_radius, certified_accuracy
    from diffsmooth.stats.group_sequential import GroupSequential
    from diffsmooth.stats.plans import FixedSampleSize
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
