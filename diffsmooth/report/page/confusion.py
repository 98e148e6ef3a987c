"""Which classes are taken for which."""

from typing import NamedTuple

import numpy as np

from diffsmooth.report.names import class_names
from diffsmooth.report.page.text import listed
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN
from diffsmooth.stats.printed import rounded_up

MOST_CLASSES = 20  # that a matrix can show
PAIRS = 20
LEVELS = 8  # of the heat map, above 0


class Count(NamedTuple):
    """A cell: images, its shade in 0 .. LEVELS by its share of the row, and whether correct."""

    images: int
    level: int
    correct: bool


class ClassRow(NamedTuple):
    """Images of one true class: all of them, those a prediction, and those without one."""

    name: str
    images: int
    counts: list[Count]
    without: list[Count]


class Pair(NamedTuple):
    """Images of the class `true` that were predicted as `predicted`, and their share of it."""

    true: str
    predicted: str
    images: int
    share: str


class Confusion(NamedTuple):
    """A run's confusion.

    Attributes:
        refused: why there is none, or "".
        classes: the columns' classes.
        without: names of the columns of images without a prediction.
        rows: the matrix's rows; empty for many classes.
        pairs: the most confused, for many classes.
        finding: in words.
    """

    refused: str
    classes: list[str]
    without: list[str]
    rows: list[ClassRow]
    pairs: list[Pair]
    finding: str


def confusion(run: Run) -> Confusion:
    """The confusion of a run; refused where a label-aware plan left images out."""
    results = run.results
    if skipped := results.count("skipped"):
        reason = (
            f"Not measured: the plan was label-aware, and {skipped} of {len(results)} images were "
            "skipped because their selected class was not the label. What they would have been "
            "certified as, or whether they abstain, is not known."
        )
        return Confusion(reason, [], [], [], [], "")
    names = class_names(run)
    failed = np.zeros(len(results), bool) if results.status is None else results.status == "failed"
    columns = [results.prediction == number for number in names]
    without = {"abstained": (results.prediction == ABSTAIN) & ~failed, "failed": failed}
    if not failed.any():
        without.pop("failed")
    pairs, classes = _pairs(run, names), list(names.values())
    finding = _finding(pairs, run)
    if len(names) > MOST_CLASSES:
        return Confusion("", classes, [], [], pairs, finding)
    rows = [
        _row(name, results.label == number, columns, list(without.values()), i)
        for i, (number, name) in enumerate(names.items())
    ]
    return Confusion("", classes, list(without), rows, [], finding)


def _row(
    name: str, mine: np.ndarray, columns: list[np.ndarray], without: list[np.ndarray], diagonal: int
) -> ClassRow:
    images = int(mine.sum())

    def count(column: np.ndarray, correct: bool = False) -> Count:
        both = int((mine & column).sum())
        return Count(both, int(np.ceil(LEVELS * both / images)) if both else 0, correct)

    counts = [count(column, i == diagonal) for i, column in enumerate(columns)]
    return ClassRow(name, images, counts, [count(column) for column in without])


def _pairs(run: Run, names: dict[int, str]) -> list[Pair]:
    """The pairs of classes with most confused images, descending; at most PAIRS."""
    results = run.results
    wrong = (results.prediction != ABSTAIN) & ~results.correct
    pairs, counts = np.unique(
        np.stack([results.label[wrong], results.prediction[wrong]]), axis=1, return_counts=True
    )
    found = []
    for i in np.argsort(-counts, kind="stable")[:PAIRS]:
        true, predicted = (int(number) for number in pairs[:, i])
        share = counts[i] / np.sum(results.label == true)
        found.append(Pair(names[true], names[predicted], int(counts[i]), rounded_up(share)))
    return found


def _finding(pairs: list[Pair], run: Run) -> str:
    if not pairs:
        return "No image is predicted as a wrong class."
    most = [f"{p.true} as {p.predicted} ({p.images})" for p in pairs[:3]]
    wrong = int(((run.results.prediction != ABSTAIN) & ~run.results.correct).sum())
    return f"{wrong} of {len(run.results)} images are predicted wrongly, most often {listed(most)}."
