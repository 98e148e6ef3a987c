"""What `bench` finds: each finding is a record that is printed at once, and kept for a file."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from diffsmooth.stats.printed import counted, rounded_down
from diffsmooth.whole_file import write_whole


class Finding(Protocol):
    """A NamedTuple whose text is what is printed."""

    def _asdict(self) -> dict[str, Any]: ...


class Findings:
    """Tells findings as they come.

    Args:
        path: JSON file that holds all of them after each one, or None.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._records: list[dict[str, Any]] = []

    def tell(self, finding: Finding) -> None:
        """Prints one; records name their kind."""
        print(finding, flush=True)
        self._records.append({"record": type(finding).__name__, **finding._asdict()})
        if self._path is not None:
            write_whole(self._path, json.dumps(self._records, indent=1).encode())


class Machine(NamedTuple):
    """On what it was measured, and by what; `date` is UTC's."""

    device: str
    torch: str
    cuda: str | None
    python: str
    threads: int
    date: str

    def __str__(self) -> str:
        return f"{self.device}, torch {self.torch}, {counted(self.threads, 'thread')}"


class MatrixPeak(NamedTuple):
    """The fastest product of two square matrices; `precision` is float32 or bf16."""

    precision: str
    dtype: str
    side: int
    gflops: float

    def __str__(self) -> str:
        return f"matrix product, {self.dtype}: {self.gflops:,.0f} GFLOP/s"


class Subject(NamedTuple):
    """What the findings behind it are about; `gflop` of a vote, None where shapes do not tell."""

    workload: str
    title: str
    gflop: float | None
    noise: str

    def __str__(self) -> str:
        work = "" if self.gflop is None else f"; {self.gflop:,.2f} GFLOP a vote"
        return f"\n{self.title}{work}; noise {self.noise}"


class Switches(NamedTuple):
    """CUDA's switches on the two sides."""

    published: str
    engine: str

    def __str__(self) -> str:
        return f"CUDA's switches:\n(a) {self.published}\n(b) {self.engine}"


class LeftOut(NamedTuple):
    """What is not measured, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} is left out: {self.reason}"


class Heading(NamedTuple):
    """Of the two kinds of rates."""

    def __str__(self) -> str:
        return f"{'':22}   batch    votes/s   x published   outside the networks   votes as float32"


class LoopRate(NamedTuple):
    """Of the published loop; `ratio` to the best of its batches."""

    batch: int
    votes_per_second: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"{'(a) published loop':22} {self.batch:7} {self.votes_per_second:10,.1f}   "
            f"{self.ratio:11.2f}"
        )


class EngineRate(NamedTuple):
    """Of the engine in a setting.

    Attributes:
        ratio: to the published loop's best; None where it was left out.
        outside: share of the time that is spent outside of the networks.
        agreement: with float32's votes, in words.
    """

    setting: str
    batch: int
    votes_per_second: float
    ratio: float | None
    outside: float
    agreement: str

    def __str__(self) -> str:
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return (
            f"{f'(b) engine, {self.setting}':22} {self.batch:7} {self.votes_per_second:10,.1f}   "
            f"{ratio:>11}   {100 * self.outside:18.1f} %   {self.agreement}"
        )


class RowBits(NamedTuple):
    """Whether each row's outputs are the same bits at any place in the batch, and in words."""

    setting: str
    exact: bool
    found: str

    def __str__(self) -> str:
        return f"    {self.setting}: {self.found}"


class NetworkRate(NamedTuple):
    """Of a network alone; `gflop` of a vote, `share` of the matrix product's peak."""

    setting: str
    network: str
    milliseconds: float
    gflop: float | None
    gflops: float | None
    share: float | None

    def __str__(self) -> str:
        text = f"    {self.setting}, {self.network}: {self.milliseconds:.4g} ms a vote"
        if self.gflops is not None and self.share is not None:
            share = rounded_down(100 * self.share, 1)
            text += (
                f" for {self.gflop:,.2f} GFLOP: {self.gflops:,.0f} GFLOP/s, {share} % of the "
                "matrix product's"
            )
        return text


class WorkShare(NamedTuple):
    """What a kind of work takes of a vote on the device; `share` of all kinds."""

    setting: str
    kind: str
    milliseconds: float
    share: float

    def __str__(self) -> str:
        return (
            f"    {self.setting}: {100 * self.share:5.1f} %  {self.milliseconds:9.4g} ms a vote  "
            f"{self.kind}"
        )


class PeakMemory(NamedTuple):
    """The most bytes at two numbers of votes."""

    setting: str
    votes: tuple[int, int]
    peaks: tuple[int, int]

    def __str__(self) -> str:
        few, many = (
            f"{peak / 2**20:,.0f} MiB at N = {votes:,}"
            for votes, peak in zip(self.votes, self.peaks, strict=True)
        )
        return f"\npeak memory (Cohen's method, {self.setting}): {few}, {many}"


class ProcessRates(NamedTuple):
    """Votes a second of one process of one thread, and of two."""

    setting: str
    one: float
    two: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"\nprocesses of one thread (shipped networks, {self.setting}): one {self.one:.1f} "
            f"votes/s, two {self.two:.1f} votes/s, {self.ratio:.2f} times"
        )


class SequentialVotes(NamedTuple):
    """Votes an image of the sequential plan; `error` is the mean's standard error."""

    images: int
    radii: tuple[float, ...]
    mean: float
    error: float | None
    least: int
    most: int
    fixed: int

    def __str__(self) -> str:
        error = "?" if self.error is None else f"{self.error:,.0f}"
        return (
            f"\nsequential plan (Cohen's method, {self.images} shipped images, radii "
            f"{' '.join(f'{radius:g}' for radius in self.radii)}): {self.mean:,.0f} +- {error} "
            f"votes an image on average (+- the standard error), {self.least:,} to {self.most:,}; "
            f"fixed: {self.fixed:,}; {rounded_down(self.fixed / self.mean, 1)} times fewer"
        )


class TrainingHeading(NamedTuple):
    """Of the rates of trainings."""

    def __str__(self) -> str:
        return "\ntraining (random images; the loop of train.py): images/s, batch, precision"


class TrainingRate(NamedTuple):
    """How fast one of the `TRAININGS` is."""

    training: str
    batch: int
    precision: str
    compiled: bool
    images_per_second: float

    def __str__(self) -> str:
        said = f"{self.batch}, {self.precision}{', compiled' * self.compiled}"
        return f"{self.training:34} {self.images_per_second:9,.1f}   {said}"
