"""The same batch on every rank and at every start: whether they compute the same function."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from diffsmooth.runs.names import OutputError


class Probe(NamedTuple):
    """What a process made of the probe batch; goes into the manifest.

    Attributes:
        device: what computed: of the same name, the same bits are expected.
        inputs, outputs: sha256 of the batch, and of the networks' outputs.
        rounding: how far the mean softmax of a row depends on its place in the batch.
    """

    device: str
    inputs: str
    outputs: str
    rounding: float

    def contradicts(self, other: "Probe") -> bool:
        """Whether the same hardware made something else of the same batch."""
        alike = (self.device, self.inputs) == (other.device, other.inputs)
        return alike and self.outputs != other.outputs


def check_ranks(probes: Sequence[Probe | None], timed: bool = False) -> str:
    """A note on the first two ranks that compute something else for a known reason; "" if none do.

    Args:
        probes: by rank; None of one that has nothing to vote on.
        timed: whether each chose its kernels by timing.

    Raises:
        OutputError: ranks of the same hardware computed something else.
    """
    note = ""
    for (i, one), (j, other) in combinations(enumerate(probes), 2):
        if one and other and one.contradicts(other) and timed:
            note = note or (
                f"kernels are chosen by timing: ranks {i} and {j} round differently, which may tip "
                "near-ties"
            )
        elif one and other and one.contradicts(other):
            raise OutputError(
                f"ranks {i} and {j} compute other numbers from the same batch, both on "
                f"{one.device}: they would not vote alike (libraries, drivers, environment?)"
            )
        elif one and other and one.inputs == other.inputs and one.outputs != other.outputs:
            note = note or (
                f"hardware differs: {one.device} (rank {i}) and {other.device} (rank {j}) round "
                "differently, which may tip near-ties"
            )
    return note
