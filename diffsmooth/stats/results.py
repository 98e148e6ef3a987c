"""Results of many images: one record an image, and arrays of all."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from diffsmooth.stats.bounds import floor_decimals
from diffsmooth.stats.certificate import ABSTAIN, Certificate, Look, Status
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plans import MajorityVote

LOWEST_COUNTS = {
    "index": 0, "label": 0, "prediction": ABSTAIN, "selected": ABSTAIN,
    "n0": 0, "n": 0, "votes": 0, "max_n": 1,
}  # fmt: skip
LARGEST_COUNT = 2**53  # below, float64 holds every one
CERTIFY_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
PREDICT_COLUMNS = ("idx", "label", "predict", "correct", "time")


@dataclass(frozen=True)
class ImageRecord:
    """One line of the journal.

    Attributes:
        index: of the image in its dataset.
        label: true class.
        seconds: wall-clock time that the image took.
        certificate: the result; `plan.nothing(sigma)` where there was an error.
        error: what went wrong, or "".
    """

    index: int
    label: int
    seconds: float
    certificate: Certificate
    error: str = ""

    @property
    def correct(self) -> bool:
        return self.certificate.prediction == self.label

    def to_json(self) -> str:
        """One line, without its end."""
        fields = asdict(self.certificate)
        return json.dumps(
            {
                "index": self.index,
                "label": self.label,
                "correct": self.correct,
                "seconds": round(self.seconds, 4),
                **fields,
                "error": self.error,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, line: str) -> "ImageRecord":
        """The record of a line.

        Raises:
            UserError: not such a line.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            index, label = fields.pop("index"), fields.pop("label")
            seconds, error = fields.pop("seconds"), str(fields.pop("error"))
            fields.pop("correct")
            _check_numbers({"index": index, "label": label, "seconds": seconds, **fields})
            fields["grid"] = tuple(float(radius) for radius in fields["grid"])
            for name in ("selection_counts", "estimation_counts"):
                fields[name] = tuple((int(k), int(v)) for k, v in fields[name])
            fields["looks"] = tuple(Look(*look) for look in fields["looks"])
            return cls(index, label, seconds, Certificate(**fields), error)
        except UserError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as problem:
            raise UserError(f"not a journal line: {problem}") from problem

    def tsv_row(self, columns: tuple[str, ...]) -> str:
        """The row of the field's table, without its end; the radius is rounded down."""
        cells = {
            "idx": str(self.index),
            "label": str(self.label),
            "predict": str(self.certificate.prediction),
            "radius": f"{floor_decimals(self.certificate.radius):.6f}",
            "correct": str(int(self.correct)),
            "time": f"{self.seconds:.4f}",
        }
        return "\t".join(cells[column] for column in columns)


def _check_numbers(fields: dict[str, Any]) -> None:
    """Raises UserError for fields of a journal's line that no run can have written."""
    for name, least in LOWEST_COUNTS.items():
        value = fields[name]
        if type(value) is not int or not least <= value < LARGEST_COUNT:
            raise UserError(f"{name} is {value!r}, not a whole number from {least} on")
    ranges = [
        *((name, fields[name], 0.0, math.inf) for name in ("seconds", "sigma", "max_radius")),
        *((name, fields[name], 0.0, 1.0) for name in ("alpha", "p_lower")),
        ("radius", fields["radius"], 0.0, fields["max_radius"]),
        *(("grid", radius, 0.0, math.inf) for radius in fields["grid"]),
    ]
    for name, value, lowest, highest in ranges:
        known = type(value) in (int, float) and math.isfinite(value)
        if not known or not lowest <= value <= highest:
            raise UserError(f"{name} is {value!r}, not a number in {lowest:g} .. {highest:g}")
    status, prediction, radius = fields["status"], fields["prediction"], fields["radius"]
    if status not in get_args(Status):
        raise UserError(f"status is {status!r}, not of {', '.join(get_args(Status))}")
    if (prediction == ABSTAIN) != (status not in ("certified", "answered")):
        raise UserError(f"prediction is {prediction}, but status {status}")
    if radius and status != "certified":
        raise UserError(f"radius is {radius}, but status {status}")


def parse_journal(lines: Iterable[str], source: object) -> list[ImageRecord]:
    """The records of a journal's lines.

    Raises:
        UserError: a broken line; the message names `source` and the line's number.
    """
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(ImageRecord.from_json(line))
        except UserError as error:
            raise UserError(f"{source}, line {number}: {error}") from error
    return records


def to_tsv(records: Iterable[ImageRecord], columns: tuple[str, ...]) -> str:
    """The field's table as text: a header, then one line a record."""
    return "\n".join(["\t".join(columns), *(r.tsv_row(columns) for r in records)]) + "\n"


@dataclass(frozen=True)
class Results:
    """Arrays over M images, by ascending index: what curves, tables and reports take.

    Attributes:
        index: int64 (M,).
        label: int64 (M,).
        prediction: int64 (M,), ABSTAIN where there is none.
        radius: float64 (M,), l2, in [0, 1] pixel units.
        seconds: float64 (M,); NaN where not known.
        max_radius: the largest radius that the plan could give, or None where not known: certified
            accuracy beyond it is not measured, rather than 0.
        plan: name of the plan, or None where not known.
        grid: the radii that the plan decided, ascending; empty where it decides all. Certified
            accuracy elsewhere is not measured.
        tolerance: share of the radius that the plan gave away to stop early; None if none.
        stopped_for: alpha that the votes stopped early for, where it is another one than `alpha`.
        certifies: whether there are radii; predictions have none.
        sigma: noise level, [0, 1] pixel units, or None where not known.
        alpha: failure probability of each certificate, or None where not known.
        votes: int64 (M,), or None where not known.
        status: str (M,), see `Status`, or None where not known.
        p_lower: float64 (M,), or None where not known.
    """

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    radius: np.ndarray
    seconds: np.ndarray
    max_radius: float | None = None
    plan: str | None = None
    grid: tuple[float, ...] = ()
    tolerance: float | None = None
    stopped_for: float | None = None
    certifies: bool = True
    sigma: float | None = None
    alpha: float | None = None
    votes: np.ndarray | None = None
    status: np.ndarray | None = None
    p_lower: np.ndarray | None = None

    @property
    def correct(self) -> np.ndarray:
        """bool (M,)."""
        return (self.prediction == self.label) & (self.prediction != ABSTAIN)

    @property
    def understates(self) -> bool:
        """Whether more votes would give larger radii: the plan stopped when it knew its grid."""
        return bool(self.grid) or self.understates_accuracy

    @property
    def understates_accuracy(self) -> bool:
        """Whether more votes would certify more images at the radii that are measured, too."""
        return self.tolerance is not None or self.stopped_for is not None

    def measures(self, radii: np.ndarray) -> np.ndarray:
        """Whether certified accuracy is measured at each radius: float64 (R,) to bool (R,)."""
        measured = np.ones(len(radii), dtype=bool)
        if self.max_radius is not None:
            measured &= radii <= self.max_radius
        if self.grid:
            measured &= np.isclose(radii[:, None], self.grid, rtol=0.0, atol=1e-9).any(axis=1)
        return measured

    def count(self, status: Status) -> int:
        """Number of images of a status; 0 where not known."""
        return 0 if self.status is None else int(np.sum(self.status == status))

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def from_records(cls, records: Iterable[ImageRecord]) -> "Results":
        """The arrays of one run's records.

        Raises:
            UserError: records of different plans.
        """
        rows = sorted(records, key=lambda record: record.index)
        certificates = [record.certificate for record in rows]
        plans = {
            (c.max_radius, c.plan, c.grid, c.tolerance, c.sigma, c.alpha) for c in certificates
        }
        if len(plans) > 1:
            raise UserError("records of different plans, which are not one run")
        nothing = (None, None, (), None, None, None)
        max_radius, plan, grid, tolerance, sigma, alpha = plans.pop() if plans else nothing
        return cls(
            index=np.array([r.index for r in rows], dtype=np.int64),
            label=np.array([r.label for r in rows], dtype=np.int64),
            prediction=np.array([c.prediction for c in certificates], dtype=np.int64),
            radius=np.array([c.radius for c in certificates], dtype=np.float64),
            seconds=np.array([r.seconds for r in rows], dtype=np.float64),
            max_radius=max_radius,
            plan=plan,
            grid=grid,
            tolerance=tolerance,
            certifies=plan != MajorityVote.name,
            sigma=sigma,
            alpha=alpha,
            votes=np.array([c.votes for c in certificates], dtype=np.int64),
            status=np.array([c.status for c in certificates], dtype=str),
            p_lower=np.array([c.p_lower for c in certificates], dtype=np.float64),
        )
