"""Validation and test: which rank measures what, and means that do not depend on it."""

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stripes import make_data, make_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diffsmooth.lit.data.images import DataError, Sample
from diffsmooth.lit.data.loaders import WholeBatches, evaluation_rows
from diffsmooth.lit.training import GaussianTraining
from diffsmooth.lit.training.mean_over_images import MeanOverImages, mean_over_images
from diffsmooth.models.classifiers.dataset_info import DatasetInfo

COUNTS = st.integers(1, 60)


def dealt(total: int, rows: int, most: int | None, ranks: int) -> list[list[list[int]]]:
    """The batches of each rank, as its loader makes them."""
    data = TensorDataset(torch.arange(total))
    loaders = [
        DataLoader(data, rows, sampler=WholeBatches(data, rows, most, ranks, rank))  # type: ignore[arg-type, var-annotated]
        for rank in range(ranks)
    ]
    return [[batch.tolist() for (batch,) in loader] for loader in loaders]


@given(COUNTS, st.integers(1, 20), st.integers(1, 9), st.none() | st.integers(1, 9))
def test_the_batches_are_those_of_one_device_on_any_number(
    total: int, rows: int, ranks: int, most: int | None
) -> None:
    (alone,) = dealt(total, rows, most, 1)
    assert alone == [list(range(i, min(i + rows, total))) for i in range(0, total, rows)][:most]
    shares = dealt(total, rows, most, ranks)
    assert len({len(share) for share in shares}) == 1  # none waits for another
    times = Counter(tuple(batch) for share in shares for batch in share)
    assert set(times) == {tuple(batch) for batch in alone}
    assert sum(times.values()) < len(alone) + ranks


def test_the_rows_depend_on_the_images_size_alone() -> None:
    def rows(*shape: int) -> int:
        return evaluation_rows([Sample(torch.zeros(shape), 0, 0)])  # type: ignore[arg-type]

    assert rows(1, 28, 28) == rows(3, 32, 32) == 128
    assert rows(3, 256, 256) == rows(4, 3, 256, 256) == 21  # four draws of an image
    assert rows(3, 4096, 4096) == 1


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), st.randoms())
def test_means_are_exact_in_any_order_and_count_an_image_once(values: list[float], random) -> None:  # type: ignore[no-untyped-def]
    exact = float(sum(map(Fraction, values)))
    rows = list(enumerate(values))
    rows += random.choices(rows, k=5)
    random.shuffle(rows)
    indices, shuffled = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert mean_over_images(indices, shuffled) == exact / len(values)
    metric = MeanOverImages()
    for part in torch.arange(len(rows)).split(7):
        metric.update(indices[part], shuffled[part])
    assert metric.compute() == torch.tensor(exact / len(values))


def test_the_logged_means_are_those_over_all_images(tmp_path: Path, root: Path) -> None:
    np.savez(root / "test.npz", images=np.zeros((51, 28, 28), np.uint8), labels=np.arange(51) % 4)
    module = GaussianTraining("cifar_resnet8", sigma=0.25)
    trainer = make_trainer(tmp_path, 1, limit_test_batches=1)
    (metrics,) = trainer.test(module, datamodule=make_data(root), verbose=False)
    module.eval()
    data = trainer.datamodule.test  # type: ignore[attr-defined]
    images = torch.stack([data[i].image for i in range(51)])
    batch = next(iter(DataLoader(data, batch_size=51)))
    noise = module.draws(module.noise_keys(batch, "test"), 1, images.shape[1:])[:, 0]
    with torch.no_grad():
        log_p = module.classifier(images + 0.25 * noise).log_softmax(dim=1)
    right = sum(int(p.argmax()) == i % 4 for i, p in enumerate(log_p))
    assert metrics["test/noisy_accuracy"] == np.float32(right / 51)
    loss = -math.fsum(float(p[i % 4]) for i, p in enumerate(log_p)) / 51
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-6)


class NoAnswer(nn.Module):
    """Right where it answers; not a number, at the label, for the first image of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 4)
        logits[:, 0] = 1
        logits[0] = torch.tensor([torch.nan, 0, 0, 0])  # whose largest, by argmax, is the first
        return logits


def test_what_is_not_a_number_is_no_answer(tmp_path: Path) -> None:
    info = DatasetInfo("four", (1, 8, 8), tuple("abcd"), (0.5,), (0.5,))
    module = GaussianTraining(NoAnswer(), dataset=info)
    data = TensorDataset(torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64))
    trainer = make_trainer(tmp_path, 1)
    (metrics,) = trainer.test(module, DataLoader(data, batch_size=5), verbose=False)
    assert metrics["test/noisy_accuracy"] == pytest.approx(4 / 5)


def test_a_share_of_each_devices_batches_is_refused(root: Path) -> None:
    data = make_data(root)
    data.setup("test")
    data.trainer = type("T", (), {"limit_test_batches": 0.5, "world_size": 2, "global_rank": 0})()  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"limit_test_batches 0\.5 is a share of each device's"):
        data.test_dataloader()
