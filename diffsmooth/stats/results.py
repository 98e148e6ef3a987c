"""Results of many images: one record an image, and arrays of all."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diffsmooth.stats.bounds import floor_decimals
from diffsmooth.stats.certificate import Certificate, Look

CERTIFY_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
PREDICT_COLUMNS = ("idx", "label", "predict", "correct", "time")


@dataclass(frozen=True)
class ImageRecord:
    """One line of the journal.

    Attributes:
        index: of the image in its dataset.
        label: true class.
        seconds: wall-clock time that the image took.
        certificate: the result.
    """

    index: int
    label: int
    seconds: float
    certificate: Certificate

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
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, line: str) -> "ImageRecord":
        """The record of a line.

        Raises:
            ValueError: not such a line.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            index, label = int(fields.pop("index")), int(fields.pop("label"))
            seconds = float(fields.pop("seconds"))
            fields.pop("correct")
            for name in ("selection_counts", "estimation_counts"):
                fields[name] = tuple((int(k), int(v)) for k, v in fields[name])
            fields["looks"] = tuple(Look(*look) for look in fields["looks"])
            return cls(index, label, seconds, Certificate(**fields))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a journal line: {error}") from error

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


def parse_journal(lines: Iterable[str], source: object) -> list[ImageRecord]:
    """The records of a journal's lines.

    Raises:
        ValueError: a broken line; the message names `source` and the line's number.
    """
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(ImageRecord.from_json(line))
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from error
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
    """

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    radius: np.ndarray
    seconds: np.ndarray
    max_radius: float | None = None

    @property
    def correct(self) -> np.ndarray:
        """bool (M,)."""
        return self.prediction == self.label

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def from_records(cls, records: Iterable[ImageRecord]) -> "Results":
        """The arrays of many records, and the largest radius that their votes could give."""
        rows = sorted(records, key=lambda record: record.index)
        return cls(
            index=np.array([r.index for r in rows], dtype=np.int64),
            label=np.array([r.label for r in rows], dtype=np.int64),
            prediction=np.array([r.certificate.prediction for r in rows], dtype=np.int64),
            radius=np.array([r.certificate.radius for r in rows], dtype=np.float64),
            seconds=np.array([r.seconds for r in rows], dtype=np.float64),
            max_radius=max((r.certificate.max_radius for r in rows), default=None),
        )
