"""What `report` is to show, checked."""

import math
from dataclasses import dataclass

from diffsmooth.pipeline.option_records import OptionRecord, option, required
from diffsmooth.stats.errors import UserError


def check_radius(name: str, radius: float) -> None:
    """Raises UserError unless it is one."""
    if not 0 <= radius < math.inf:
        raise UserError(f"{name} must be >= 0 and finite, got {radius}")


def check_probability(name: str, alpha: float) -> None:
    """Raises UserError for a failure probability that no run can have."""
    if not 0 < alpha < 1:
        raise UserError(f"{name} must be in (0, 1), got {alpha}")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(OptionRecord):
    """Which runs, by which tables, and into which files."""

    runs: list[str] = required("journals (.jsonl), or tables with the columns idx, label, predict, "
        "radius, correct and time; a table of predictions has no radius")  # fmt: skip
    names: list[str] | None = option(None, "of the runs, in their order; by default their files'")
    radii: list[float] | None = option(None, "of the tables, l2, in [0, 1] pixel units; by default "
        "multiples of 0.25 up to 1.5 (ImageNet: of 0.5 up to 3), and the runs' own "
        "grids", check=check_radius)  # fmt: skip
    columns: list[str] | None = option(None, "of the table of certified accuracy, after the "
        "radii's; by default acr, abstained and images; also PACKAGE.MODULE:FUNCTION, from a run "
        "to a number or a text")  # fmt: skip
    decimals: int = option(3, "of the tables' numbers")
    paired: bool = option(False, "compare the first run with each other one, image by image: "
        "p-values for each radius alone (McNemar), and for all of them together "
        "(Holm)")  # fmt: skip
    envelope: bool = option(False, "the best of the runs at each radius, and which run it is")
    alpha: float | None = option(None, "analyse the votes at this failure probability; needs the "
        "journals", check=check_probability)  # fmt: skip
    table_alpha: float | None = option(None, "alpha of the tables without a journal, for the "
        "high-probability bound", check=check_probability)  # fmt: skip
    table: list[str] = option([], "write the tables: .txt, .md, .tex (booktabs) or .csv (numbers, "
        "one line a run and radius)")  # fmt: skip
    figure: list[str] = option([], "write certified accuracy against radius: .png, .pdf or .svg")
    html: str | None = option(None, "write one page with everything, to browse")
    tensorboard: str | None = option(None, "folder of TensorBoard events, one folder a run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names is not None:
            if len(self.names) != len(self.runs):
                raise UserError(f"names must be {len(self.runs)}, got {len(self.names)}")
            for name in self.names:
                if not name.isprintable() or not name.strip():
                    raise UserError(f"names must be printable, got {name!r}")
        if not 0 <= self.decimals <= 9:
            raise UserError(f"decimals must be in 0 .. 9, got {self.decimals}")
        if self.paired and len(self.runs) < 2:
            raise UserError("paired needs two runs or more")
