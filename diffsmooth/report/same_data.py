"""Whether runs may stand in one report: on one dataset, and paired on the same images."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from diffsmooth.runs.reading import Run
from diffsmooth.stats.errors import UserError


def check_same_data(runs: Sequence[Run]) -> None:
    """Raises UserError for runs that cannot be on images of one dataset; it names the files."""
    for run, other in combinations(runs, 2):
        _check_same_pixels(run, other)
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


def _check_same_pixels(run: Run, other: Run) -> None:
    """Raises UserError where two journals tell that an image of one number is another one."""
    mine = {one.index: one.origin for one in run.records if one.origin and one.origin.image}
    for record in other.records:
        here, there = mine.get(record.index), record.origin
        if here is None or there is None or not there.image:
            continue
        # Of another size it is other pixels of perhaps the same file.
        if here.image_shape == there.image_shape and here.image != there.image:
            raise UserError(
                f"{other.path}: image {record.index} is another one than in {run.path} (their "
                "pixels have other digests): a report takes one dataset"
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
