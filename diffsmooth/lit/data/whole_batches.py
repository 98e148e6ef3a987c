"""Which images a device validates and tests on: whole batches, the same ones on any number."""

import math
from collections.abc import Iterator

from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.images import Sample

MOST_ROWS = 128
NUMBERS = 2**22  # of a batch of images: 21 of 3 x 256 x 256


def evaluation_rows(images: Dataset[Sample]) -> int:
    """Rows of a forward pass of validation and test, by the images' size alone.

    Kernels give other low bits at other batch shapes, so it must not depend on what a training on
    more devices changes, as the batch size.
    """
    size = images[0].image.shape[-3:].numel()
    return max(1, min(MOST_ROWS, NUMBERS // size))


class WholeBatches(DistributedSampler[Sample]):
    """Deals the batches of an unshuffled data set to the ranks in turn, each batch whole.

    All ranks get as many: where the batches do not go round, the first ones are dealt once more,
    or ranks without a batch would leave the others waiting. What is measured on them must count
    each image once; see `MeanOverImages`. (torch's own sampler deals single images, so that each
    batch depends on the number of ranks.)

    Args:
        images: the data set.
        rows: images a batch, the loader's batch size; the last batch may have fewer.
        most: batches in all.
        num_replicas, rank: how many ranks there are, and which is this.
    """

    def __init__(
        self, images: Dataset[Sample], rows: int, most: int | None, num_replicas: int, rank: int
    ) -> None:
        super().__init__(images, num_replicas, rank, shuffle=False)
        total: int = len(images)  # type: ignore[arg-type]
        starts = range(0, total, rows)[:most]
        share = math.ceil(len(starts) / num_replicas)
        # The short batch, if there is one, is the last of its rank's: the loader cuts at `rows`.
        own = [starts[(rank + k * num_replicas) % len(starts)] for k in range(share)]
        self._indices = [i for start in own for i in range(start, min(start + rows, total))]

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # of indices, as torch's
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
