"""When, where and by what a run is started: for its manifest."""

from datetime import UTC, datetime
from typing import Any

import torch

from diffsmooth.lit.probes import device_name
from diffsmooth.pipeline.revision import versions


def this_start(device: torch.device) -> dict[str, Any]:
    """Fields of `RunContext`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"begun": now, "device": device_name(device), "made_by": versions()}
