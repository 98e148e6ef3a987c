"""What goes wrong inside a process, by its word in the environment's TORTURE_FAULT."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from typing import Any


def jumping_clock() -> None:
    """The time of day jumps by up to thirty years, to and fro, at each look."""
    chance, real, real_ns = random.Random(), time.time, time.time_ns
    time.time = lambda: max(0.0, real() + chance.uniform(-1e9, 1e9))
    time.time_ns = lambda: max(0, real_ns() + chance.randrange(-(10**18), 10**18))


def loader_dies() -> None:
    """The processes that load a training's images are killed, sooner or later."""
    import torch

    from diffsmooth.lit.data.training_set import TrainingSet

    real = TrainingSet.__getitem__

    def get(self: Any, index: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None and random.random() < 0.03:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, index)

    TrainingSet.__getitem__ = get  # type: ignore[method-assign]


def little_memory() -> None:
    """The address space may grow by so many bytes."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + int(os.environ["TORTURE_MEMORY"])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


FAULTS: dict[str, Callable[[], None]] = {
    "jumping_clock": jumping_clock,
    "loader_dies": loader_dies,
    "little_memory": little_memory,
}
