"""A run as reports take it: its results, and what lies beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from diffsmooth.runs.gallery import GalleryImage
from diffsmooth.stats import ImageRecord, Results
from diffsmooth.stats.errors import UserError


@dataclass(frozen=True)
class Run:
    """Results with their name and origin.

    Attributes:
        name: for tables and legends.
        path: the file that was named.
        results: results of all images.
        lines: int64 (M,), the line of each image in the file, from 1.
        remarks: what a reader must know of the file, one line each.
        records: the journal's records, by ascending index; empty where there is none.
        identity, context: the manifest's, as they are stored; empty where there is none.
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
    """Raises UserError for runs that cannot be on images of one dataset; it names the files."""
    for run, other in combinations(runs, 2):
        if run.dataset and other.dataset:
            data, others = (
                f"{r.dataset} {r.identity.get('split', '')}".strip() for r in (run, other)
            )
            if data != others:
                raise UserError(
                    f"{other.path} is of {others}, but {run.path} is of {data}: a report takes one "
                    "dataset"
                )
        _, mine, theirs = np.intersect1d(run.results.index, other.results.index, True, True)
        differs = np.flatnonzero(run.results.label[mine] != other.results.label[theirs])
        if differs.size:
            i, j = mine[differs[0]], theirs[differs[0]]
            raise UserError(
                f"{other.path}, line {other.lines[j]}: image {other.results.index[j]} has label "
                f"{other.results.label[j]}, but on line {run.lines[i]} of {run.path} it has "
                f"{run.results.label[i]}: they are of different datasets"
            )


def check_same_images(first: Run, second: Run) -> None:
    """Raises UserError unless both runs are on the same images; it names file and line."""
    for run, other in ((first, second), (second, first)):
        missing = np.flatnonzero(~np.isin(run.results.index, other.results.index))
        if missing.size:
            raise UserError(
                f"{run.path}, line {run.lines[missing[0]]}: image {run.results.index[missing[0]]} "
                f"is not in {other.path}: only runs on the same images can be paired"
            )
