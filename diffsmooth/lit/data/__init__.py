"""Datasets, and the data module that feeds them to training."""

from diffsmooth.lit.data.images import ImageSet, Sample
from diffsmooth.lit.data.module import ImageDataModule
from diffsmooth.lit.data.reading import Reading
from diffsmooth.lit.data.sources import load_images

__all__ = ["ImageDataModule", "ImageSet", "Reading", "Sample", "load_images"]
