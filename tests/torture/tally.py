"""What came out of the torture, counted."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from starts import Ended


class NotHere(Exception):
    """It cannot be done on this machine."""


FAULTS = ("lost", "doubled", "wrong", "tracebacks", "hangs", "litter")


@dataclass
class Tally:
    """Of one kind of torture.

    Attributes:
        name: of the kind.
        starts: processes, or files that were read.
        struck: those that met with what is done to them.
        lost, doubled, wrong: rows of tables and lines of journals, at the end.
        tracebacks, hangs, litter: starts that ended so; files left behind.
        aborts: starts that the C library, or the interpreter, ended without memory: no code of ours
            runs then. They are no faults; the rows are compared all the same.
        seconds: that it took.
        notes: of each fault what shows it.
        skipped: why it could not be done here.
    """

    name: str
    starts: int = 0
    struck: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    tracebacks: int = 0
    hangs: int = 0
    litter: int = 0
    aborts: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    def count(self, ended: Ended, *codes: int) -> Ended:
        """Counts a start; one that ends with none of the codes, where some are told, is wrong."""
        self.starts += 1
        self.tracebacks += ended.traceback
        self.hangs += ended.hung
        if ended.traceback or ended.hung:
            self.note(f"code {ended.code}, hung {ended.hung}: {ended.said[-3000:]}")
        elif codes and ended.code not in codes:
            self.wrong += 1
            self.note(f"code {ended.code} is not of {codes}: {ended.said[-2000:]}")
        return ended

    def note(self, text: str) -> None:
        """Keeps what shows a fault."""
        self.notes.append(text)

    @property
    def faults(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in FAULTS)

    def rows(self, found: list[tuple[int, object]], true: dict[int, object], where: str) -> None:
        """Counts rows against an undisturbed run's.

        Args:
            found: index and what else must be the same, in the file's order.
            true: that of the undisturbed run, by index.
            where: for notes.
        """
        seen: dict[int, object] = {}
        for index, row in found:
            self.doubled += index in seen
            seen[index] = row
            if true.get(index) != row:
                self.wrong += 1
                self.note(f"{where}: {index} is {row}, not {true.get(index)}")
        missing = sorted(true.keys() - seen.keys())
        self.lost += len(missing)
        if missing or len(found) != len(seen):
            self.note(f"{where}: lost {missing}, {len(found)} rows of {len(seen)} images")

    def write(self, path: Path) -> None:
        """For the process that puts them together."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Tally":
        """What `write` wrote."""
        return cls(**json.loads(path.read_text()))


def text_of(tallies: list[Tally]) -> str:
    """A Markdown table."""
    columns = ("starts", "struck", *FAULTS, "aborts")
    lines = [f"| torture | {' | '.join(columns)} | seconds |", f"| --- |{' ---: |' * 10}"]
    for one in tallies:
        cells = [one.skipped or f"{getattr(one, name):,}" for name in columns]
        if one.skipped:
            lines.append(f"| {one.name} | not done here: {one.skipped} |{' |' * 9}")
        else:
            lines.append(f"| {one.name} | {' | '.join(cells)} | {one.seconds:.0f} |")
    sums = [f"{sum(getattr(one, name) for one in tallies):,}" for name in columns]
    lines.append(f"| all | {' | '.join(sums)} | {sum(one.seconds for one in tallies):.0f} |")
    return "\n".join(lines)
