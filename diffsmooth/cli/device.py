"""The device of the commands that need no Lightning trainer."""

import torch


def pick_device(accelerator: str) -> torch.device:
    """The first device of a kind: auto (a GPU where there is one), cpu, or gpu.

    Raises:
        ValueError: another word, or no such device here.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"accelerator must be auto, cpu or gpu, got {accelerator!r}")
    available = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not available:
        raise ValueError(f"accelerator {accelerator}: torch {torch.__version__} finds no GPU here")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")
