"""The probe batch of a run, and what this process makes of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsmooth.lit.data.images import ImageSet
from diffsmooth.lit.hardware import device_name
from diffsmooth.models.smoothing.engine import check_image
from diffsmooth.models.smoothing.fixed_function import FixedFunction
from diffsmooth.runs.probes import Probe

IMAGES = 4  # of the probe batch


def probe_images(
    images: ImageSet, selection: Sequence[int], shape: tuple[int, ...]
) -> list[Tensor]:
    """The first few of a run that can be read; the others are told when it is their turn."""
    found = []
    for index in selection[:IMAGES]:
        try:
            image = images[index].image
            check_image(image, index, shape)
        except Exception:
            continue
        found.append(image)
    return found


def probe_of(device: torch.device, found: FixedFunction) -> Probe:
    """What a device made of the batch."""
    return Probe(device_name(device), found.inputs, found.outputs, found.rounding)
