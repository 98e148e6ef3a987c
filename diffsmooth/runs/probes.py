"""The same batch on every rank and at every start: whether they compute the same function."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple


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


def read_probes(context: Mapping[str, Any]) -> list[Probe]:
    """The probes in a manifest's context; none in one of a version that had none.

    Raises:
        ValueError, TypeError: they are broken.
    """
    probes = [Probe(**probe) for probe in context.get("probes", [])]
    for probe in probes:
        *words, rounding = probe
        if not all(isinstance(word, str) for word in words) or type(rounding) not in (int, float):
            raise TypeError(f"{probe} is no probe")
    return probes


def contradiction(probes: Sequence[Probe | None]) -> str:
    """The first two ranks of the same hardware that computed something else; "" if none did.

    Args:
        probes: by rank; None of one that has nothing to vote on.
    """
    for (i, one), (j, other) in combinations(enumerate(probes), 2):
        if one and other and one.contradicts(other):
            return (
                f"ranks {i} and {j} compute other numbers from the same batch, both on "
                f"{one.device}: they would not vote alike (libraries, drivers, environment?)"
            )
    return ""


def difference_of_devices(probes: Sequence[Probe | None]) -> str:
    """The first two ranks whose hardware differs, and what it computes; "" if there are none."""
    for (i, one), (j, other) in combinations(enumerate(probes), 2):
        if one and other and one.inputs == other.inputs and one.outputs != other.outputs:
            return (
                f"hardware differs: {one.device} (rank {i}) and {other.device} (rank {j}) round "
                "differently, which may tip near-ties"
            )
    return ""


def distinct(probes: Iterable[Probe | None]) -> tuple[Probe, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(probe for probe in probes if probe))
