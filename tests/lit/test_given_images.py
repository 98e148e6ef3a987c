"""What a Python call may be given as images, labels and indices, and what it may not."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from diffsmooth.lit.data import load_images
from diffsmooth.lit.data.given import GivenImages
from diffsmooth.stats.errors import UserError

SHAPE = (3, 4, 5)
BYTES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), dtype=np.uint8)
FLOATS = torch.from_numpy(BYTES).float() / 255
LAST = np.ascontiguousarray(BYTES.transpose(0, 2, 3, 1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def given(images: Any, **more: Any) -> GivenImages:
    return GivenImages(images, SHAPE, 3, **more)


@pytest.mark.parametrize(
    "images",
    [
        FLOATS, FLOATS.numpy(), FLOATS.double(), FLOATS.numpy().astype(np.float64), BYTES,
        torch.from_numpy(BYTES), LAST, torch.from_numpy(LAST), FLOATS.flip(0).flip(0),
        LAST[:, ::-1][:, ::-1], [*FLOATS], [*BYTES], [*LAST], [Image.fromarray(x) for x in LAST],
        Subset(FLOATS, range(6)),
    ],
)  # fmt: skip
def test_every_form_of_the_same_images_gives_the_same_pixels(images: Any) -> None:
    found = given(images)
    assert [sample.original_index for sample in map(found.__getitem__, range(6))] == [*range(6)]
    assert torch.equal(torch.stack([found[n].image for n in range(6)]), FLOATS)
    assert found[0].image.dtype == torch.float32
    assert (found.is_labelled, found.label(3), found.indices) == (False, None, [*range(6)])
    assert found.fingerprint() == given(FLOATS).fingerprint()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (FLOATS, LABELS), (BYTES, LABELS.numpy()), (FLOATS, LABELS.tolist()),
        (TensorDataset(FLOATS, LABELS), None), (TensorDataset(FLOATS, LABELS), LABELS),
        ([*zip(LAST, LABELS.tolist(), strict=True)], None),
    ],
)  # fmt: skip
def test_labels_are_given_or_the_datasets(images: Any, labels: Any) -> None:
    found = given(images, labels=labels, indices=[9, 0, 4, 2, 7, 5])
    assert [found.label(index) for index in (9, 0, 4, 2, 7, 5)] == LABELS.tolist()
    assert torch.equal(found[7].image, FLOATS[4])
    assert found.fingerprint() != given(FLOATS, indices=[9, 0, 4, 2, 7, 5]).fingerprint()


def test_an_image_set_of_ours_is_a_dataset() -> None:
    ours = load_images("fashion_mnist_sample")
    found = GivenImages(Subset(ours, [0, 500]), (1, 32, 32), 10, indices=[0, 500])
    assert [found.label(0), found.label(500)] == [0, 5]
    assert torch.equal(found[500].image, ours[500].image)


def test_grey_pictures_have_one_channel() -> None:
    grey = LAST[..., 0]
    found = GivenImages([Image.fromarray(x) for x in grey], (1, 4, 5), 3)
    assert torch.equal(found[2].image, torch.from_numpy(grey[2])[None] / 255)


class Endless(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(FLOATS)


def changed(value: float) -> torch.Tensor:
    images = FLOATS.clone()
    images[4, 1, 2, 3] = value
    return images


CUBE = np.zeros((2, 3, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "more", "said"),
    [
        (changed(1.01), {}, r"image 4 must lie in \[0, 1\], its values range from .* to 1.01"),
        (changed(-0.01), {}, r"image 4 must lie in \[0, 1\]"),
        (changed(float("nan")), {}, r"image 4 must lie in \[0, 1\]"),
        (FLOATS * 255, {}, r"image 0 must lie in .*uint8 images are divided by 255"),
        (BYTES.astype(np.int64), {}, "must be float in .0, 1., or uint8, got int64"),
        (torch.from_numpy(BYTES).int(), {}, "must be float in .0, 1., or uint8, got torch.int32"),
        (FLOATS > 0.5, {}, "or uint8, got torch.bool"),
        (FLOATS[0], {}, r"must be \(N, C, H, W\), got \(3, 4, 5\)"),
        (FLOATS[..., :4], {}, r"must be of shape \(3, 4, 5\), or uint8 \(4, 5, 3\)"),
        (FLOATS.permute(0, 2, 3, 1), {}, "must be of shape"),  # floats have their channels first
        (FLOATS[:0], {}, "there are no images"),
        ([], {}, "there are no images"),
        ([FLOATS[0], FLOATS[1, :2]], {}, "image 1 must be of shape"),
        ([Image.fromarray(LAST[0]).convert("RGBA")], {}, "a picture of mode RGBA"),
        ([FLOATS], {}, "image 0 must be of shape"),
        (DataLoader(TensorDataset(FLOATS)), {}, "whose items are numbered, got a DataLoader"),
        (FLOATS, {"labels": [[0], 1, 2, 0, 1, 2]}, r"labels must be integers \(6,\)"),
        (Endless(), {}, "a dataset with a length, got a Endless"),
        (7, {}, "a dataset with a length, got a int"),
        ("cifar10", {}, "must be a tensor, an array or a dataset"),
        ([(FLOATS[0], 1, 2)], {}, "an item must be an image or .image, label., got 3"),
        ([(FLOATS[0], 0.5)], {}, "image 0: its label is no integer"),
        ([{"image": FLOATS[0]}], {}, "image 0: must be a tensor or an array, got a dict"),
        (FLOATS, {"labels": [0, 1, 2, 3, 0, 1]}, "label 3 of image 3 is beyond .* 3 classes"),
        (FLOATS, {"labels": [0, 1, 2, -1, 0, 1]}, "label -1 of image 3 is beyond"),
        (FLOATS, {"labels": LABELS.float()}, r"labels must be integers \(6,\), got float32"),
        (FLOATS, {"labels": LABELS[:5]}, r"labels must be integers \(6,\), got int64 \(5,\)"),
        (TensorDataset(FLOATS, LABELS), {"labels": LABELS.flip(0)}, "labels: image 0 has 2, in"),
        (FLOATS, {"indices": [0, 1, 2, 3, 4, 1]}, "indices must differ, 1 stands twice"),
        (FLOATS, {"indices": [0, 1, 2, 3, 4, -1]}, "indices must be >= 0, got -1 to 4"),
        (FLOATS, {"indices": range(7)}, r"indices must be integers \(6,\)"),
        (FLOATS, {"indices": np.arange(6) / 2}, r"indices must be integers \(6,\), got float64"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_one_line(images: Any, more: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        given(images, **more)
    assert "\n" not in str(refused.value)


def test_a_cube_of_bytes_has_its_channels_anywhere() -> None:
    with pytest.raises(UserError, match="may have its channels first or last: give floats"):
        GivenImages(CUBE, (3, 3, 3), 2)
    assert len(GivenImages(CUBE / 255, (3, 3, 3), 2)) == 2
    assert len(GivenImages(CUBE[:, :1, :1, :1], (1, 1, 1), 2)) == 2
