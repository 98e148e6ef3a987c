"""Class folders: in which splits they are, and which label each has."""

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffsmooth.lit.data.images import DataError
from diffsmooth.lit.data.tree import has_subfolders, printable

SPLITS = ("train", "test")
OTHER_SPLITS = ("val", "valid", "validation", "dev")
ALL_SPLITS = (*SPLITS, *OTHER_SPLITS)
INTEGER = re.compile(r"[+-]?\d{1,255}", re.ASCII)
WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)
SHOWN = 12  # classes in a line


def split_folders(root: Path) -> dict[str, Path]:
    """train/ and test/ where they hold class folders."""
    return {name: root / name for name in SPLITS if has_subfolders(root / name)}


def split_folder(root: Path, split: str) -> Path:
    """The folder whose folders are the classes of a split: `root`/`split`, or `root` itself.

    Raises:
        DataError: there are splits, and this is none of them.
    """
    splits = split_folders(root)
    other = next((name for name in OTHER_SPLITS if has_subfolders(root / name)), "")
    if split in splits or not (splits or other):
        return splits.get(split, root)
    there = ", ".join(f"{name}/" for name in (*splits, *([other] if other else [])))
    raise DataError(
        f"{printable(root)}: holds {there}, but no {split}/ with one folder a class in it"
        + (f"; to take {other}/, give {printable(root / other)}" if other else "")
    )


class Classes(NamedTuple):
    """The classes of a folder.

    Attributes:
        labels: the label of each class folder, in the order of the images.
        class_names: the names of all labels.
        matched: how, in words.
    """

    labels: dict[str, int]
    class_names: tuple[str, ...]
    matched: str

    def describe(self) -> str:
        """One line: which folder has which label."""
        said = [f"{label} = {printable(name)}" for name, label in self.labels.items()]
        more = ", ..." if len(said) > SHOWN else ""
        return f"classes, {self.matched}: {', '.join(said[:SHOWN])}{more}"


def label_classes(names: set[str], known: tuple[str, ...], folder: Path) -> Classes:
    """The labels of class folders.

    Args:
        names: the folders' names.
        known: the classifier's classes, in the order of its labels, where it names them. Folders
            of these names, or numbers, are those classes. If none is, the labels are by the
            folders' own order: by number where all names are integers, else by text.

    Raises:
        DataError: two names of one number, such as 1 and 01; some folders are the classifier's
            classes, and some are not; WordNet ids, but not all of a classifier's.
    """
    ordered = _ordered(names, folder)
    by_number = all(map(INTEGER.fullmatch, (*names, *known)))  # its class 1 may be folder 01

    def read(name: str) -> str:
        return str(int(name)) if by_number else printable(name)

    theirs = [read(name) if by_number else name for name in known]
    strange = [name for name in ordered if theirs.count(read(name)) != 1]
    if known and not strange:
        labels = {name: theirs.index(read(name)) for name in ordered}
        return Classes(labels, known, "by the classifier's names")
    if known and len(strange) < len(ordered):
        same = next(name for name in ordered if name not in strange)
        raise DataError(
            f"{printable(folder)}: class folder '{printable(strange[0])}' is none of the "
            f"classifier's classes, and '{printable(same)}' is one of them"
        )
    if len(known) > len(ordered) and all(WORDNET_ID.fullmatch(name) for name in ordered):
        raise DataError(
            f"{printable(folder)}: {len(ordered)} folders named by WordNet ids, the classifier has "
            f"{len(known)} classes: call the data set imagenet, with --data_root, for their labels"
        )
    matched = "by the folders' order, for the classifier has other names" if known else "by order"
    labels = {name: label for label, name in enumerate(ordered)}
    return Classes(labels, tuple(map(printable, ordered)), matched)


def _ordered(names: set[str], folder: Path) -> list[str]:
    if not all(INTEGER.fullmatch(name) for name in names):
        return sorted(names)
    ordered = sorted(names, key=lambda name: (int(name), name))
    for first, second in pairwise(ordered):
        if int(first) == int(second):
            raise DataError(
                f"{printable(folder)}: class folders {first} and {second} are one number"
            )
    return ordered


def check_all_classes(labels: np.ndarray, class_names: tuple[str, ...], source: str) -> None:
    """Refuses training images without any of a class that only a larger label makes one.

    Args:
        labels: integers (N,), each below the number of classes.
        class_names: of all classes; numbers where nobody has named them.
        source: how errors call the images.

    Raises:
        DataError: a class has no image, and no name: labels from 1 on, or some left out.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    absent = np.flatnonzero(counts == 0)
    if len(absent) and class_names == tuple(map(str, range(len(class_names)))):
        some = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        raise DataError(
            f"{source}: no image has label {some}, and the largest is {int(labels.max())}: labels "
            "count from 0, without gaps; if these are classes all the same, name them all "
            "(class_names)"
        )
