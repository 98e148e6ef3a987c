"""Datasets, and the data module that feeds them to training."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.lit.data.images import ImageSet, Sample
    from diffsmooth.lit.data.module import ImageDataModule
    from diffsmooth.lit.data.reading import Reading
    from diffsmooth.lit.data.sources import has_several_sizes, load_images
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
