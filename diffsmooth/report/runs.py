"""A run as reports take it: its results, and what lies beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffsmooth.report.gallery import GalleryImage
from diffsmooth.stats import ImageRecord, Results


@dataclass(frozen=True)
class Run:
    """Results with their name and origin.

    Attributes:
        name: for tables and legends.
        path: the file that was named.
        results: of all images.
        lines: int64 (M,), the line of each image in the file, from 1.
        remarks: what a reader must know of the file, one line each.
        records: of the journal, by ascending index; empty where there is none.
        identity, context: of the manifest, as they are stored; empty where there is none.
        gallery: pixels of a few images, by ascending index; empty where there are none.
    """

    name: str
    path: Path
    results: Results
    lines: np.ndarray
    remarks: tuple[str, ...] = ()
    records: tuple[ImageRecord, ...] = ()
    identity: Mapping[str, object] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)
    gallery: tuple[GalleryImage, ...] = ()

    @property
    def dataset(self) -> str:
        """The dataset's name, "" where not known."""
        return str(self.identity.get("dataset", ""))


def check_same_data(runs: Sequence[Run]) -> None:
    """Raises ValueError for runs that cannot be on images of one dataset; it names the files."""
    known = [run for run in runs if run.dataset]
    for run in known[1:]:
        if run.dataset != known[0].dataset:
            raise ValueError(
                f"{run.path} is of {run.dataset}, but {known[0].path} is of {known[0].dataset}: "
                "a report takes one dataset"
            )
    first = runs[0]
    for run in runs[1:]:
        _, mine, others = np.intersect1d(run.results.index, first.results.index, True, True)
        differs = np.flatnonzero(run.results.label[mine] != first.results.label[others])
        if differs.size:
            i, j = mine[differs[0]], others[differs[0]]
            raise ValueError(
                f"{run.path}, line {run.lines[i]}: image {run.results.index[i]} has label "
                f"{run.results.label[i]}, but on line {first.lines[j]} of {first.path} it has "
                f"{first.results.label[j]}: they are of different datasets"
            )


def check_same_images(first: Run, second: Run) -> None:
    """Raises ValueError unless both runs are on the same images; it names file and line."""
    for run, other in ((first, second), (second, first)):
        missing = np.flatnonzero(~np.isin(run.results.index, other.results.index))
        if missing.size:
            raise ValueError(
                f"{run.path}, line {run.lines[missing[0]]}: image {run.results.index[missing[0]]} "
                f"is not in {other.path}: only runs on the same images can be paired"
            )
