"""Images that lie on the device as bytes: batches are gathered there, and nothing is loaded."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler, Subset
from torch.utils.data.distributed import DistributedSampler

from diffsmooth.lit.data.images import Batch, ImageSet, Sample
from diffsmooth.lit.data.training_set import Address, Part, TrainingSet

SHARE = 8  # of a GPU's memory images may take one in so many


class Resident(NamedTuple):
    """The samples of a data set, in its order, on a device.

    Attributes:
        image: uint8 (N, C, H, W), or (N, V, C, H, W) of several views.
        label, original_index: int64 (N,).
        weight: float64 (N,), as the usual loader's.
    """

    image: Tensor
    label: Tensor
    original_index: Tensor
    weight: Tensor

    def batch(self, places: Tensor) -> Batch:
        """The samples at int64 (B,), as the usual loader would give them, to the bit."""
        # By a tensor: on CUDA, a division by a number is a product with its rounded inverse.
        levels = torch.full((), 255.0, device=self.image.device)
        image = self.image[places].float() / levels
        return Batch(image, self.label[places], self.original_index[places], self.weight[places])


class ResidentLoader:
    """A loader of a sampler's images, `rows` a batch, that gathers them on the device.

    As `LazyLoader`, which it stands for, it asks the sampler when the first batch is wanted, and
    has an empty state.
    """

    def __init__(self, resident: Resident, rows: int, sampler: DistributedSampler[Sample]) -> None:
        self.resident, self.rows, self.sampler = resident, rows, sampler
        items: Sampler[Any] = sampler
        self.batch_sampler = BatchSampler(items, rows, drop_last=False)  # Lightning asks for it

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        items: list[Any] = list(self.sampler)
        places = [item.image if isinstance(item, Address) else item for item in items]
        # All of an epoch at once: a copy to the device waits for it.
        order = torch.tensor(places, dtype=torch.int64).to(self.resident.image.device)
        yield from map(self.resident.batch, order.split(self.rows))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is in it."""


def why_not_resident(images: Dataset[Sample], device: torch.device) -> str:
    """Why a data set cannot lie on a device, in words; "" where it can."""
    if isinstance(images, TrainingSet) and images.crop_seed is not None:
        return "random_resized_crop reads the files anew"
    size = 0
    for part in _parts(images):
        shape, kind = part.images.stored_shape(), type(part.images)
        # A class of others may make other items of the bytes than the one that it extends.
        if shape is None or _definer(kind, "__getitem__") is not _definer(kind, "stored"):
            return f"{part.images.info.name}'s images are not bytes in memory"
        size += len(part.indices) * math.prod(shape)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        if size > memory // SHARE:
            return f"they take {size / 2**30:,.1f} GiB of the GPU's {memory / 2**30:,.1f}"
    return ""


def make_resident(images: Dataset[Sample], device: torch.device) -> Resident:
    """Brings a data set, for which nothing stands in the way, to a device."""
    parts = _parts(images)
    labels = [torch.from_numpy(part.images.labels)[_places(part)] for part in parts]
    weights = [torch.full((len(p.indices),), p.weight, dtype=torch.float64) for p in parts]
    fields = (
        torch.cat([part.images.stored(part.indices) for part in parts]),
        torch.cat(labels),
        torch.cat([_places(part) for part in parts]),
        torch.cat(weights),
    )
    return Resident(*(field.to(device) for field in fields))


def _definer(kind: type, name: str) -> type:
    return next(base for base in kind.__mro__ if name in vars(base))


def _places(part: Part) -> Tensor:
    return torch.tensor(part.indices, dtype=torch.int64)


def _parts(images: Dataset[Sample]) -> list[Part]:
    if isinstance(images, TrainingSet):
        return images.parts()
    if isinstance(images, Subset):
        assert isinstance(images.dataset, ImageSet)
        return [Part(images.dataset, images.indices, 1.0)]
    assert isinstance(images, ImageSet)
    return [Part(images, range(len(images)), 1.0)]
