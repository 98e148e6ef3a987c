"""p_A of each image: how often the base pipeline f answers the image's true class under the noise.

The average certified radius can grow although f gets worse on hard images; the distribution of p_A
over the images shows both ends. Source: Sun et al. 2024, arXiv 2410.06895.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffsmooth.stats.results import ImageRecord


@dataclass(frozen=True)
class TrueClass:
    """Arrays over M images.

    Attributes:
        lower: float64 (M,), lower bound of p_A at the run's alpha: of an image whose selected class
            is the true one its `p_lower`, also where it abstained; 0, which is a bound as well, of
            the others.
        share: float64 (M,), the true class's share of the estimation votes, which is an estimate
            and no bound; NaN where there are none.
    """

    lower: np.ndarray
    share: np.ndarray

    @classmethod
    def of_records(cls, records: "Sequence[ImageRecord]") -> "TrueClass":
        """Of certified images, whose labels are known."""
        lower, share = np.zeros(len(records)), np.full(len(records), np.nan)
        for i, record in enumerate(records):
            certificate, label = record.certificate, record.label
            if certificate.n and label is not None:
                share[i] = dict(certificate.estimation_counts).get(label, 0) / certificate.n
            if certificate.selected == label:
                lower[i] = certificate.p_lower
        return cls(lower, share)


def share_at_least(values: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which share of values (M,), M >= 1, is at least each level: float64 (R,); NaN is no value."""
    return (values >= np.asarray(levels, dtype=np.float64)[:, None]).mean(axis=1)
