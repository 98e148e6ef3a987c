"""Which number format the layers compute in."""

import torch

# Lightning's words for them.
ALIASES = {"bf16-mixed": "bf16", "32": "float32", "32-true": "float32"}


def autocast(precision: str, device_type: str) -> torch.autocast:
    """The context in which networks run at a precision: "float32", or "bf16" in the layers."""
    return torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device_type: str) -> str:
    """ "float32" or "bf16" (autocast layers; image, noise and counts stay float32).

    Args:
        precision: "auto" takes bf16 where the hardware computes in it. The choice depends on the
            hardware's capability, never on a timing, so that it is the same each time.
        device_type: "cpu" or "cuda".

    Raises:
        ValueError: another word.
    """
    precision = ALIASES.get(precision, precision)
    if precision in ("float32", "bf16"):
        return precision
    if precision != "auto":
        raise ValueError(f"precision must be auto, float32 or bf16, got {precision!r}")
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device_type == "cpu":
        can = torch.cpu.get_capabilities()  # "bf16" is ARM's name
        return "bf16" if any(map(can.get, ("avx512_bf16", "amx_bf16", "bf16"))) else "float32"
    return "float32"
