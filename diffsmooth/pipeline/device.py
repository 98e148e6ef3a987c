"""The device of commands without a Lightning trainer."""

import torch

from diffsmooth.models.smoothing.precision import fix_numerics
from diffsmooth.stats.errors import UserError


def pick_device(accelerator: str) -> torch.device:
    """The first device of a kind, for commands without a Lightning trainer, its numerics fixed.

    Args:
        accelerator: auto (a GPU where there is one), cpu, or gpu.

    Raises:
        UserError: another word, or no such device here.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise UserError(f"accelerator must be auto, cpu or gpu, got {accelerator!r}")
    fix_numerics()
    available = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not available:
        raise UserError(f"accelerator {accelerator}: torch {torch.__version__} finds no GPU here")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")
