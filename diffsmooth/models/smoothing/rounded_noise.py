"""Votes on any real image of the function that an exact run certifies: noise, then 8 bits."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffsmooth.models.smoothing.noise import Noisy, NumpyNoise, Votes, rows_of
from diffsmooth.models.smoothing.normal_cells import GREY_LEVELS


class RoundedNoise(NumpyNoise):
    """float64 normals, added to 255 times the image, then rounded to whole levels.

    A run whose noise is exact certifies z -> f(round(255 z) / 255), for all real z; but it votes on
    images on the 8-bit grid only. An attacked image need not be on it: this source votes there, in
    double precision. It makes no certificates. A purifier's own draws are `NumpyNoise`'s.

    Source: Philox4x64-10, Salmon et al. 2011, as in NumPy; each vote has a counter of its own.
    """

    name = "numpy-philox4x64 in float64, rounded to the 8-bit grid"

    def noisy(
        self, votes: Sequence[Votes], images: Sequence[Tensor], level: float, rows: int
    ) -> Noisy:
        shape = tuple(images[0].shape)
        noisy = torch.zeros((rows, *shape), pin_memory=self._pinned)
        out = noisy.numpy()
        for some, own, image in zip(votes, rows_of(votes), images, strict=True):
            key = some.key.words
            centre = GREY_LEVELS * image.double().numpy()
            for row, vote in enumerate(range(some.first, some.first + some.count), own.start):
                # The generator increments the first word as it draws.
                counter = np.array([0, vote, some.stage, 0], dtype=np.uint64)
                generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
                levels = np.rint(centre + GREY_LEVELS * level * generator.standard_normal(shape))
                out[row] = levels.astype(np.float32) / np.float32(GREY_LEVELS)
        return Noisy(noisy)
