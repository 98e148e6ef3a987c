"""What attacks found: empirical accuracy, smallest flips, and what contradicts a certificate."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffsmooth.stats.attacks import Attack
from diffsmooth.stats.certificate import ABSTAIN
from diffsmooth.stats.printed import rounded_down, rounded_up
from diffsmooth.stats.results import NO_LABEL, ImageRecord

FLIPS = ("image", "label", "certified", "radius", "flip")
FLIP_COLUMNS = ("idx", "label", "certified", "radius", "flip", "times")
LEVEL = 1e-6  # chance that a whole run of attacks finds a contradiction where there is none
UNCONFIRMED_LEVEL = 1e-3  # at which certificates that do not hold are more than alpha explains


@dataclass(frozen=True)
class Empirical:
    """Arrays over the M attacked images, by ascending number.

    An image is broken from the norm of the smallest try on that leads to another prediction than
    its label; 0.0 if it is not even right as it is, infinite if nothing breaks it. Whether to
    abstain is to be broken can be seen either way.

    Attributes:
        image: int64 (M,), its number in its dataset.
        label: int64 (M,); NO_LABEL throughout where labels are not known.
        certified: int64 (M,), classes of the attacked run, ABSTAIN where it abstained.
        radius: float64 (M,), its radii, l2, in [0, 1] pixel units.
        wrong_from: float64 (M,), norm from which the prediction is another class.
        lost_from: float64 (M,), norm from which it is another class, or abstains.
        flip: float64 (M,), smallest norm by which the prediction is another class than the
            certified one; infinite where there is none, or no certificate.
        failed: tries that ended in an error, which count for nothing.
    """

    image: np.ndarray
    label: np.ndarray
    certified: np.ndarray
    radius: np.ndarray
    wrong_from: np.ndarray
    lost_from: np.ndarray
    flip: np.ndarray
    failed: int

    @classmethod
    def from_records(cls, records: Iterable[ImageRecord]) -> "Empirical":
        """Of the tries of one run of attacks.

        Raises:
            ValueError: a record that is of no try.
        """
        tries: dict[int, list[tuple[Attack, ImageRecord]]] = {}
        failed = 0
        for record in records:
            if record.attack is None:
                raise ValueError("records that are of no attack")
            tries.setdefault(record.attack.image, [])
            if record.error:
                failed += 1
            else:
                tries[record.attack.image].append((record.attack, record))
        rows = [_row(image, tries[image]) for image in sorted(tries) if tries[image]]
        columns = zip(*rows, strict=True) if rows else [()] * len(_Row._fields)
        whole = {"image", "label", "certified"}
        arrays = {
            name: np.array(column, dtype=np.int64 if name in whole else np.float64)
            for name, column in zip(_Row._fields, columns, strict=True)
        }
        return cls(**arrays, failed=failed)

    @property
    def is_labelled(self) -> bool:
        """Whether the labels are known."""
        return bool((self.label != NO_LABEL).all())

    def certified_accuracy(self, radii: Sequence[float] | np.ndarray) -> np.ndarray:
        """Share of the attacked images that the run certified rightly at each radius (R,)."""
        radii = np.asarray(radii, dtype=np.float64)[:, None]
        right = (self.certified == self.label) & (self.certified != ABSTAIN)
        return (right & (self.radius >= radii)).mean(axis=1)

    def accuracy(self, radii: Sequence[float] | np.ndarray, abstained_is_right: bool) -> np.ndarray:
        """Empirical accuracy at each radius (R,): an upper bound of what any attack leaves.

        Args:
            radii: l2, in [0, 1] pixel units.
            abstained_is_right: whether an image that was right, and on which the attacked
                prediction abstains, still counts as right.
        """
        radii = np.asarray(radii, dtype=np.float64)[:, None]
        broken_from = self.wrong_from if abstained_is_right else self.lost_from
        return (broken_from > radii).mean(axis=1)

    def flips_tsv(self) -> str:
        """A table of the smallest flip of each image: a header, then one line an image.

        `flip` is the norm, rounded up, and `times` what it is in certified radii; nan without one.
        """
        lines = ["\t".join(FLIP_COLUMNS)]
        for row in zip(*(getattr(self, name) for name in FLIPS), strict=True):
            image, label, certified, radius, flip = row
            norm = rounded_up(flip, 6) if math.isfinite(flip) else "nan"
            times = rounded_up(flip / radius, 3) if math.isfinite(flip) and radius else "nan"
            shown = "nan" if label == NO_LABEL else str(label)
            cells = (str(image), shown, str(certified), rounded_down(radius, 6), norm, times)
            lines.append("\t".join(cells))
        return "\n".join(lines) + "\n"

    def __len__(self) -> int:
        return len(self.image)


class _Row(NamedTuple):
    image: int
    label: int
    certified: int
    radius: float
    wrong_from: float
    lost_from: float
    flip: float


def _row(image: int, tries: Sequence[tuple[Attack, ImageRecord]]) -> _Row:
    attack, record = tries[0]
    label = NO_LABEL if record.label is None else record.label
    wrong = lost = flip = math.inf
    for one, its_own in tries:
        norm = one.norm if one.method else 0.0
        prediction = its_own.certificate.prediction
        if prediction != label:
            lost = min(lost, norm)
            if prediction != ABSTAIN:
                wrong = min(wrong, norm)
        if ABSTAIN not in (prediction, attack.certified) and prediction != attack.certified:
            flip = min(flip, norm)
    return _Row(image, label, attack.certified, attack.radius, wrong, lost, flip)


def is_suspect(record: ImageRecord) -> bool:
    """Whether a try contradicts the attacked run's certificate, as far as its votes tell."""
    attack, prediction = record.attack, record.certificate.prediction
    if attack is None or record.error or not attack.is_inside:
        return False
    return prediction not in (ABSTAIN, attack.certified)


def checking_level(tries: int, restarts: int) -> float:
    """Level of each of a suspect's two checks, PREDICT and CERTIFY, so that all err by `LEVEL`."""
    return LEVEL / (2 * tries * restarts)


def unconfirmed_pvalue(unconfirmed: int, certificates: int, alpha: float) -> float:
    """Chance of so many false certificates, or more, if each is false with chance alpha."""
    from scipy.stats import binom

    return float(binom.sf(unconfirmed - 1, certificates, alpha)) if unconfirmed else 1.0
