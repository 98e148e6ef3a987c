"""The networks that a run needs: a classifier behind a purifier."""

from typing import NamedTuple

from diffsmooth.lit.data import ImageSet
from diffsmooth.models import LocalSmoothing
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.classifier_choice import LoadedClassifier
from diffsmooth.pipeline.purifier_loading import LoadedPurifier
from diffsmooth.pipeline.specification import VotingOptions
from diffsmooth.shown_text import shown
from diffsmooth.stats.errors import option_values


class Networks(NamedTuple):
    """What votes on images: a classifier, behind a purifier."""

    images: ImageSet
    classifier: LoadedClassifier
    purifier: LoadedPurifier

    @property
    def notes(self) -> list[str]:
        """Lines that tell what was found in their files, and chosen by measuring."""
        lines = (*self.classifier.said, self.purifier.note)
        return [shown(line) for line in lines if line]

    def vote_function(
        self, options: VotingOptions, m: int, sigma_local: float, batch: int, precision: str
    ) -> VoteFunction:
        """What votes, by a setting of the local smoothing; the networks are its own."""
        shape = self.images.info.image_shape
        model, num_classes, *_ = self.classifier
        purifier, sigma = self.purifier.purifier, options.sigma
        with option_values():
            local = LocalSmoothing(model, m, sigma_local, shape, options.local_seed)
            return VoteFunction(purifier, local, sigma, num_classes, batch, precision, copy=False)
