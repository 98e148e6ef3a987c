"""Which number format the layers compute in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, get_args

import torch

from diffsmooth.models.words import Kernels, Precision
from diffsmooth.stats.errors import UserError

# Lightning's words for them.
ALIASES = {"bf16-mixed": "bf16", "32": "float32", "32-true": "float32"}


def autocast(precision: str, device_type: str) -> torch.autocast:
    """The context in which networks run at a precision: "bf16" casts in the layers.

    Raises:
        ValueError: a word that is not of `Precision`: it would not be what its user wanted.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be float32, tf32 or bf16, got {precision!r}")
    return torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device_type: str) -> str:
    """ "float32", "tf32" or "bf16" (autocast layers; image, noise and counts stay float32).

    Args:
        precision: "auto" takes bf16 where the hardware computes in it. The choice depends on the
            hardware's capability, never on a timing, so that it is the same each time. "tf32" is
            never taken of its own accord.
        device_type: "cpu" or "cuda".

    Raises:
        UserError: another word; tf32 elsewhere than on CUDA.
    """
    precision = ALIASES.get(precision, precision)
    if precision == "tf32" and device_type != "cuda":
        raise UserError(f"precision tf32 is of CUDA devices, not of {device_type}")
    if precision in get_args(Precision):
        return precision
    if precision != "auto":
        raise UserError(f"precision must be auto, float32, tf32 or bf16, got {precision!r}")
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device_type == "cpu":
        can = torch.cpu.get_capabilities()  # "bf16" is ARM's name
        return "bf16" if any(map(can.get, ("avx512_bf16", "amx_bf16", "bf16"))) else "float32"
    return "float32"


def fix_numerics(precision: str = "float32", kernels: Kernels = "fixed") -> None:
    """Float32 means float32, and f is one fixed function while the process lives.

    Args:
        precision: as resolved; "tf32" lets matrix products of float32 run in TF32.
        kernels: "fixed" lets no timing choose them: f is then the same in all processes.
    """
    tf32 = precision == "tf32"
    _turn(Numerics(tf32, tf32, deterministic=True, timed_choice=kernels == "timed"))


class Numerics(NamedTuple):
    """The switches of PyTorch that say how CUDA computes in float32, and by which kernels.

    Attributes:
        tf32_convolutions, tf32_products: whether float32 convolutions (cuDNN's) and matrix products
            may run in TF32.
        deterministic: whether cuDNN may use deterministic kernels only.
        timed_choice: whether cuDNN times its kernels and takes the fastest (`cudnn.benchmark`).
    """

    tf32_convolutions: bool
    tf32_products: bool
    deterministic: bool
    timed_choice: bool

    def __str__(self) -> str:
        words = zip(self._fields, ("on" if value else "off" for value in self), strict=True)
        return ", ".join(f"{name.replace('_', ' ')} {word}" for name, word in words)


def current_numerics() -> Numerics:
    """The switches as they stand in this process."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return Numerics(cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark)


@contextmanager
def numerics_of(numerics: Numerics) -> Iterator[None]:
    """Turns the switches, and turns them back at the end."""
    before = current_numerics()
    _turn(numerics)
    try:
        yield
    finally:
        _turn(before)


def _turn(numerics: Numerics) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.allow_tf32, matmul.allow_tf32 = numerics.tf32_convolutions, numerics.tf32_products
    cudnn.deterministic, cudnn.benchmark = numerics.deterministic, numerics.timed_choice
