"""Results of many images: one record an image, and arrays of all."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.certificate import ABSTAIN, Certificate, Status
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.plan_words import kind_of
from diffsmooth.stats.printed import counted, rounded_down, rounded_up
from diffsmooth.stats.true_class import TrueClass

if TYPE_CHECKING:
    import pandas as pd

CERTIFY_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
PREDICT_COLUMNS = ("idx", "label", "predict", "correct", "time")
ATTACK_COLUMNS = (
    "idx", "label", "certified", "radius", "attack", "budget", "norm", "predict", "correct", "time"
)  # fmt: skip
NO_LABEL = -2  # in arrays, of an image whose label is not known; it is no prediction either
SHOWN_RADII = (0.0, 0.25, 0.5, 0.75, 1.0)  # of results in short


@dataclass(frozen=True)
class Origin:
    """Which run a record is of, and which image.

    Attributes:
        identity: short name of the run's identity.
        noise_source: generator of the votes' noise.
        image: digest of the image that got the noise; "" where it could not be read.
        image_shape: (C, H, W), at which it got the noise.
        file: its name below the dataset's folder; "" where images are not files.
    """

    identity: str
    noise_source: str
    image: str
    image_shape: tuple[int, ...]
    file: str = ""


FLOATING = "floating-point"


def kind_of_noise(source: str) -> str:
    """What the noise of a source, by its name in manifests, is: exact, or floating-point."""
    return "exact" if source.startswith("integer") else FLOATING


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image: a line of the journal.

    Attributes:
        index: the image's number in its dataset.
        label: true class, None where it is not known.
        seconds: wall-clock time that the image took.
        certificate: the result; `plan.nothing(sigma)` where there was an error.
        error: what went wrong, or "".
        origin: where it comes from; None where that is not known (journals of format 1).
        attack: what was done to the image before, where something was: `index` is then the number
            of the try.
    """

    index: int
    label: int | None
    seconds: float
    certificate: Certificate
    error: str = ""
    origin: Origin | None = None
    attack: Attack | None = None

    @property
    def correct(self) -> bool:
        return self.certificate.prediction == self.label


def to_tsv(records: Iterable[ImageRecord], columns: tuple[str, ...]) -> str:
    """The field's table as text: a header, then one line a record; radii are rounded down.

    What is not known is nan, which no reader takes for a label or a count.
    """
    lines = ["\t".join(columns)]
    for record in records:
        known = record.label is not None
        cells = {
            "idx": str(record.index),
            "label": str(record.label) if known else "nan",
            "predict": str(record.certificate.prediction),
            "radius": rounded_down(record.certificate.radius, 6),
            "correct": str(int(record.correct)) if known else "nan",
            "time": f"{record.seconds:.4f}",
        }
        if record.attack is not None:
            cells |= _attack_cells(record.attack)
        lines.append("\t".join(cells[column] for column in columns))
    return "\n".join(lines) + "\n"


def _attack_cells(attack: Attack) -> dict[str, str]:
    """What speaks for the certificate is rounded down, what speaks against it up."""
    return {
        "idx": str(attack.image),
        "certified": str(attack.certified),
        "radius": rounded_down(attack.radius, 6),
        "attack": attack.method or "none",
        "budget": rounded_up(attack.budget, 6),
        "norm": rounded_up(attack.norm, 6),
    }


@dataclass(frozen=True, repr=False)
class Results:
    """Arrays over M images, by ascending index: what curves, tables and reports take.

    Attributes:
        index: int64 (M,).
        label: int64 (M,), or NO_LABEL throughout where labels are not known.
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
        true_class: what the votes say of p_A, or None where not known, or there are no bounds.
        noise: "exact" or "floating-point", see `kind_of_noise`, or None where not known.
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
    true_class: TrueClass | None = None
    noise: str | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether the labels are known."""
        return bool((self.label != NO_LABEL).all())

    @property
    def correct(self) -> np.ndarray:
        """bool (M,).

        Raises:
            UserError: the labels are not known.
        """
        if not self.is_labelled:
            raise UserError("there are no labels, so nobody knows what is correct, or how accurate")
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

    def __repr__(self) -> str:
        from diffsmooth.stats.curves import average_certified_radius, certified_accuracy

        parts = [
            counted(len(self), "image"),
            f"{int((self.prediction == ABSTAIN).sum())} without answer",
        ]
        parts += [f"sigma {self.sigma:g}"] if self.sigma is not None else []
        parts += ["floating-point noise"] if self.noise == FLOATING else []
        if not self.is_labelled:
            parts.append("no labels")
        elif len(self):
            radii = np.array(self.grid or SHOWN_RADII if self.certifies else [0.0])
            radii = radii[self.measures(radii)]
            shares = zip(certified_accuracy(self, radii), radii, strict=True)
            accuracy = ", ".join(f"{rounded_down(share)} at {radius:g}" for share, radius in shares)
            parts.append(f"{'certified ' * self.certifies}accuracy {accuracy}")
            if self.certifies:
                average = rounded_down(average_certified_radius(self))
                parts.append(f"average certified radius {'>= ' * self.understates}{average}")
        return f"Results({'; '.join(parts)})"

    def to_frame(self) -> "pd.DataFrame":
        """A data frame of one row an image, see `runs/frame.py`."""
        # By name: of a higher floor, and with pandas, which this one does without.
        frame: pd.DataFrame = import_module("diffsmooth.runs.frame").frame_of(self)
        return frame

    @classmethod
    def from_records(cls, records: Iterable[ImageRecord]) -> "Results":
        """The arrays of one run's records.

        Raises:
            ValueError: records of different plans.
        """
        rows = sorted(records, key=lambda record: record.index)
        certificates, labels = [r.certificate for r in rows], [r.label for r in rows]
        names = ("max_radius", "plan", "grid", "tolerance", "sigma", "alpha")
        plans = {tuple(getattr(c, name) for name in names) for c in certificates}
        if len(plans) > 1:
            raise ValueError("records of different plans, which are not one run")
        told: dict[str, Any] = dict(zip(names, *plans, strict=True)) if plans else {}
        sources = {r.origin.noise_source if r.origin else None for r in rows}
        source = sources.pop() if len(sources) == 1 else None
        certifies = not told or kind_of(told["plan"]).certifies
        return cls(
            index=np.array([r.index for r in rows], dtype=np.int64),
            label=np.array([NO_LABEL if n is None else n for n in labels], dtype=np.int64),
            prediction=np.array([c.prediction for c in certificates], dtype=np.int64),
            radius=np.array([c.radius for c in certificates], dtype=np.float64),
            seconds=np.array([r.seconds for r in rows], dtype=np.float64),
            certifies=certifies,
            votes=np.array([c.votes for c in certificates], dtype=np.int64),
            status=np.array([c.status for c in certificates], dtype=str),
            p_lower=np.array([c.p_lower for c in certificates], dtype=np.float64),
            true_class=TrueClass.of_records(rows) if certifies and None not in labels else None,
            noise=None if source is None else kind_of_noise(source),
            **told,
        )
