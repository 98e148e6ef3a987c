"""A shard of a run: some of its images, for a process that knows of no other."""

import re
from typing import NamedTuple


class Shard(NamedTuple):
    """One of `total` equal parts of a run's images, by independent processes; from 1 on."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard of a text such as 3/16.

        Raises:
            ValueError: not such a text.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise ValueError(f"shard must be I/K with 1 <= I <= K, such as 1/16, got {text!r}")
        return shard

    def share_of(self, selection: list[int]) -> list[int]:
        """This shard's images."""
        return selection[self.number - 1 :: self.total]
