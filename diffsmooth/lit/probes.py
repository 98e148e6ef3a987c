"""The same batch on every rank and at every start: whether they compute the same function."""

import platform
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsmooth.lit.data.images import ImageSet
from diffsmooth.lit.identity import hardware_name
from diffsmooth.models.smoothing.engine import check_image
from diffsmooth.models.smoothing.fixed_function import FixedFunction

IMAGES = 4  # of the probe batch


class Probe(NamedTuple):
    """What a process made of the probe batch; goes into the manifest.

    Attributes:
        device: its name, see `device_name`.
        inputs, outputs: sha256 of the batch, and of the networks' outputs.
        rounding: how far the mean softmax of a row depends on its place in the batch.
    """

    device: str
    inputs: str
    outputs: str
    rounding: float

    @classmethod
    def of(cls, device: torch.device, found: FixedFunction) -> "Probe":
        return cls(device_name(device), found.inputs, found.outputs, found.rounding)

    def contradicts(self, other: "Probe") -> bool:
        """Whether the same hardware made something else of the same batch."""
        alike = (self.device, self.inputs) == (other.device, other.inputs)
        return alike and self.outputs != other.outputs


def read_probes(context: Any) -> list[Probe]:
    """The probes in a manifest's context; none in one of a version that had none.

    Raises:
        ValueError, TypeError: they are broken.
    """
    stored = context.get("probes", []) if isinstance(context, dict) else []
    probes = [Probe(**probe) for probe in stored]
    for probe in probes:
        *words, rounding = probe
        if not all(isinstance(word, str) for word in words) or type(rounding) not in (int, float):
            raise TypeError(f"{probe} is no probe")
    return probes


def contradiction(probes: Sequence[Probe | None]) -> str:
    """The first two ranks of the same hardware that computed something else; "" if none did.

    Args:
        probes: by rank; None of one that has nothing to vote on.
    """
    for (i, one), (j, other) in combinations(enumerate(probes), 2):
        if one and other and one.contradicts(other):
            return (
                f"ranks {i} and {j} compute other numbers from the same batch, both on "
                f"{one.device}: they would not vote alike (libraries, drivers, environment?)"
            )
    return ""


def difference_of_devices(probes: Sequence[Probe | None]) -> str:
    """The first two ranks whose hardware differs, and what it computes; "" if there are none."""
    for (i, one), (j, other) in combinations(enumerate(probes), 2):
        if one and other and one.inputs == other.inputs and one.outputs != other.outputs:
            return (
                f"hardware differs: {one.device} (rank {i}) and {other.device} (rank {j}) round "
                "differently, which may tip near-ties"
            )
    return ""


def distinct(probes: Iterable[Probe | None]) -> tuple[Probe, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(probe for probe in probes if probe))


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


def device_name(device: torch.device) -> str:
    """What computes, more exactly than an identity says it: the same name, the same bits."""
    if device.type != "cpu":
        return hardware_name(device)
    return f"{_cpu_model()}, {hardware_name(device)}"


def _cpu_model() -> str:
    """Name, family and model of the CPU: virtual machines hide the number in the name."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in file.read_text().splitlines())
    # Of the last core; all are alike.
    fields = {name.strip(): value.strip() for name, _, value in lines}
    wanted = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
    return " ".join(fields[name] for name in wanted if name in fields) or platform.machine()
