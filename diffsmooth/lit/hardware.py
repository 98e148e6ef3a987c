"""What computes: kernels, and so the last bits, differ between kinds of hardware."""

import platform
from pathlib import Path

import torch


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
