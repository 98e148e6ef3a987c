"""Where kernels of our own can run: by what is there, never by a timing."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch

AMPERE = (8, 0)  # the first that computes in bf16


def lacking(device: torch.device) -> str:
    """Why Triton's kernels cannot run on a device, in words; "" where they can."""
    if device.type != "cuda" or torch.version.cuda is None:
        return f"they are of NVIDIA's GPUs, not of {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if torch.cuda.get_device_capability(device) < AMPERE:
        return f"{torch.cuda.get_device_name(device)} is too old for them"
    # Triton builds what starts its kernels when they are first called.
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler (set CC, or install gcc)"
    return lacking_header()


def lacking_header() -> str:
    """That Python's header, which compilers of extensions need, is missing, in words; or ""."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.is_file() else f"{header} is missing (install python3-dev)"
