"""What is measured before votes are spent."""

import numpy as np
import pytest
import torch
from torch import Tensor

from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.images import DataError, ImageSet, Sample
from diffsmooth.pipeline.sanity import right_answers

CPU = torch.device("cpu")


@pytest.mark.parametrize("broken", [{3, 7}, {0, 1, 2, 3}, set(range(12))])
def test_images_that_cannot_be_read_are_left_out(
    broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images("fashion_mnist_sample", "data")
    among = list(range(12))
    seen: list[Tensor] = []

    def classify(noisy: Tensor, _: object) -> Tensor:
        seen.append(noisy)
        return torch.zeros(len(noisy), dtype=torch.long)

    def measure() -> Tensor:
        return right_answers(classify, images, 12, 0.5, "sanity", 0, CPU, batch=4, among=among)

    whole = measure()
    assert np.array_equal(whole.numpy(), images.labels[:12] == 0)
    read = type(images).__getitem__

    def failing(self: ImageSet, index: int) -> Sample:
        if index in broken:
            raise DataError(f"{index}: not a readable image")
        return read(self, index)

    monkeypatch.setattr(type(images), "__getitem__", failing)
    kept = [index not in broken for index in among]
    assert torch.equal(measure(), whole[kept])
