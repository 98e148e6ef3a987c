"""What a run's identity takes from files and from the hardware."""

import hashlib
from pathlib import Path

import torch


def file_sha256(path: Path | str) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hardware_name(device: torch.device) -> str:
    """What computes: kernels, and so the last bits, differ between kinds of hardware."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        flags = [
            flag for flag in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(flag)
        ]
        return " ".join(["cpu", torch.backends.cpu.get_cpu_capability(), *flags])
    return device.type
