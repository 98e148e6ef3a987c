"""What classes, images and runs are called, as far as a run's files tell."""

from collections.abc import Sequence

import numpy as np

from diffsmooth.models.classifiers.dataset_info import get_dataset_info
from diffsmooth.runs.reading import Run
from diffsmooth.shown_text import shown
from diffsmooth.stats import ABSTAIN, ImageRecord


def known_classes(run: Run) -> tuple[str, ...]:
    """Names of classes 0, 1, ...: the manifest's, or those of a known dataset, harmless to show.

    None are known where a label or a prediction lies beyond them: then they are not the run's.
    """
    told = run.identity.get("class_names")
    if isinstance(told, list) and told and all(isinstance(name, str) for name in told):
        names = tuple(map(shown, told))
    else:
        try:
            names = get_dataset_info(run.dataset.removesuffix("_sample")).class_names
        except ValueError:  # a dataset of the user's own
            names = ()
    seen = _seen(run)
    return names if seen.min(initial=0) >= 0 and seen.max(initial=0) < len(names) else ()


def class_names(run: Run) -> dict[int, str]:
    """Names by number, ascending: all that are known, else the numbers that are seen."""
    known = known_classes(run)
    return dict(enumerate(known)) or {int(number): str(number) for number in _seen(run)}


def file_names(records: Sequence[ImageRecord]) -> dict[int, str]:
    """Files of a run's images below the dataset's folder, by the record's index.

    Images that are in no file of their own, or whose journal does not tell, are left out.
    """
    origins = ((record.index, record.origin) for record in records)
    return {index: shown(origin.file) for index, origin in origins if origin and origin.file}


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the folders, first or last, that they all share; they stay different."""
    parts = [name.split("/") for name in names]
    for end in (0, -1):
        while min(map(len, parts)) > 1 and len({some[end] for some in parts}) == 1:
            for some in parts:
                some.pop(end)
    return ["/".join(some) for some in parts]


def _seen(run: Run) -> np.ndarray:
    """The numbers of the classes among labels and predictions, ascending."""
    seen = np.unique(np.concatenate([run.results.label, run.results.prediction]))
    return seen[seen != ABSTAIN]
