"""Means that do not depend on which device measured which image."""

import math

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class MeanOverImages(Metric):
    """The mean of a number that each image has, over the images of all ranks.

    It is the same, to the last digit, in whatever order and on whatever rank the images were
    measured, as long as each has the same number; one that was measured more than once counts once.
    """

    full_state_update = False
    indices: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("indices", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, indices: Tensor, values: Tensor) -> None:
        """Takes the images' numbers in the whole dataset, int64 (B,), and their values (B,)."""
        self.indices.append(indices)
        self.values.append(values.detach().float())

    def compute(self) -> Tensor:
        values = dim_zero_cat(self.values)
        return values.new_tensor(mean_over_images(dim_zero_cat(self.indices), values))


def mean_over_images(indices: Tensor, values: Tensor) -> float:
    """The mean of `values` (N,), the first of each index (N,); rounded once, so in any order."""
    first: dict[int, float] = {}
    for index, value in zip(indices.tolist(), values.tolist(), strict=True):
        first.setdefault(index, value)
    return math.fsum(first.values()) / len(first)
