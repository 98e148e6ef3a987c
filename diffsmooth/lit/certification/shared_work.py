"""What the ranks of a job share while they work: whose turn an image is, and how far all are.

Images cost very different numbers of votes under a sequential plan, so each rank takes the next
image when it has votes to fill; which rank does what changes no result.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from diffsmooth.lit.certification.ranks import LostRank, connected, from_all_ranks, is_distributed
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.errors import UserError

REPORT_SECONDS = 0.5  # between two reports of a rank
PATIENCE = timedelta(minutes=5)  # with a rank that does not answer
RADIUS_UNIT = 1e-6  # the store counts whole numbers


class Totals(NamedTuple):
    """What all ranks have done since the job started.

    Attributes:
        images: finished, `correct` of them correctly.
        radius: sum of the radii of the correct ones.
        votes: cast; `finished_votes` of them for finished images.
    """

    images: int = 0
    correct: int = 0
    radius: float = 0.0
    votes: int = 0
    finished_votes: int = 0

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> "Totals":
        """The images alone, not their votes."""
        radii = [record.certificate.radius for record in records if record.correct]
        return cls(len(records), len(radii), sum(radii))


class SharedWork:
    """A queue of images to do, and totals, in a store of rank zero's.

    Every rank must construct it, with the same images. `trainer.predict` iterates over it: no
    DataLoader, whose sampler Lightning would replace by a split that is made beforehand.

    Args:
        images: indices to do.
        address: rank zero's host, as the others see it.
    """

    def __init__(self, images: list[int], address: str) -> None:
        self._images = images
        self._store = _open_store(address)
        self._unreported = Totals()
        self._reported_at = time.monotonic()
        self.is_stopped = False

    def __len__(self) -> int:
        # At most; without a number, Lightning would take one image before its turn has come.
        return len(self._images)

    def __iter__(self) -> Iterator[int]:
        """Indices of the images whose turn is this rank's, taken one by one as they are asked for.

        Raises:
            LostRank: rank zero is gone.
        """
        while (turn := self._add("taken", 1)) <= len(self._images):
            yield self._images[turn - 1]

    def report(self, votes: int, finished: Sequence[ImageRecord]) -> None:
        """Adds what this rank has done.

        Raises:
            LostRank: rank zero is gone, or a rank has told why it ends the run.
        """
        finished_votes = sum(record.certificate.votes for record in finished)
        new = Totals.of(finished)._replace(votes=votes, finished_votes=finished_votes)
        self._unreported = Totals._make(map(sum, zip(self._unreported, new, strict=True)))
        if time.monotonic() - self._reported_at > REPORT_SECONDS:
            self.flush()

    def stop(self) -> None:
        """Tells all ranks to stop; `is_stopped` says so on each after its next report."""
        self._add("stopped", 1)
        self.is_stopped = True

    def tell(self, code: int) -> bool:
        """Tells the others, as far as they still are, by which exit code this rank ends the run.

        Returns:
            Whether it is the first to tell one, and so the one who says why.
        """
        try:
            is_first = self._add("tellers", 1) == 1
            if is_first:
                self._add("told", code)
        except LostRank:  # who is alone says it
            return True
        return is_first

    def flush(self) -> None:
        """Reports at once; errors as of `report`."""
        for name, value in self._unreported._asdict().items():
            if value:
                self._add(name, int(value / RADIUS_UNIT) if name == "radius" else value)
        self._unreported = Totals()
        self._reported_at = time.monotonic()
        self.is_stopped = self._add("stopped", 0) > 0
        if code := self._add("told", 0):
            raise LostRank("another process says why", code)

    def totals(self) -> Totals:
        """The sum over the ranks, as far as they have reported."""
        values = Totals(*(self._add(name, 0) for name in Totals._fields))
        return values._replace(radius=values.radius * RADIUS_UNIT)

    def _add(self, name: str, value: int) -> int:
        with connected():
            return self._store.add(name, value)


def _open_store(address: str) -> dist.Store:
    if not is_distributed():
        return dist.HashStore()
    if dist.get_rank() == 0:
        # Without waiting for the others: they learn the port from it.
        served = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        from_all_ranks(served.port)
        return served
    port = from_all_ranks(0)[0]
    try:
        return dist.TCPStore(address, port, is_master=False, timeout=PATIENCE)
    except RuntimeError as error:
        minutes = int(PATIENCE.total_seconds()) // 60
        raise UserError(
            f"rank {dist.get_rank()} cannot reach {address}:{port}, a port that rank zero chose, "
            f"within {minutes} minutes: a firewall between the hosts, or rank zero has ended"
        ) from error
