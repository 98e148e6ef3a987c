"""The probe batch of a run, and what computes it."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffsmooth.lit.data.images import ImageSet
from diffsmooth.models.smoothing.engine import check_image

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


def hardware_name(device: torch.device) -> str:
    """The kind of a device, as a run's identity has it."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        flags = [
            flag for flag in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(flag)
        ]
        return " ".join(["cpu", torch.backends.cpu.get_cpu_capability(), *flags])
    return device.type


def device_name(device: torch.device) -> str:
    """More exactly than an identity says it: the same name, the same bits."""
    if device.type != "cpu":
        return hardware_name(device)
    model, file = platform.processor(), Path("/proc/cpuinfo")
    if file.is_file():
        # Family and model, too: virtual machines hide the number in the name. Of the last core;
        # all are alike.
        lines = (line.partition(":") for line in file.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in lines}
        wanted = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
        model = " ".join(fields[name] for name in wanted if name in fields)
    return f"{model or platform.machine()}, {hardware_name(device)}"
