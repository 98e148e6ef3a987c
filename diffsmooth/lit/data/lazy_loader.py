"""A loader that Lightning may start early, and what its processes leave to their parent."""

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from diffsmooth.lit.data.images import Sample


class LazyLoader(DataLoader[Sample]):
    """A loader whose processes are asked for nothing before the first batch is wanted.

    Lightning makes the iterator before it tells the sampler the epoch of a training that goes on;
    torch's would at once ask for what belongs to epoch 0.

    It has a state, if an empty one, which tells Lightning that a training can go on from the middle
    of an epoch: `TrainingOrder` leaves out what the trainer says it has had.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # not torch's own class
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is in it."""


def leave_interrupts_to_the_parent(worker: int) -> None:
    """What a loader's process begins with: Ctrl-C, which all processes get, is not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
