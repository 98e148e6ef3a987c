"""One row an image: which file, which classes, and what the votes gave."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from diffsmooth.report.names import file_names, known_classes
from diffsmooth.runs.frame import frame_of
from diffsmooth.runs.reading import Run

ORDER = (
    "run", "idx", "file", "label", "label_name", "predict", "predict_name", "correct", "radius",
    "p_lower", "true_class_p_lower", "true_class_votes_share", "votes", "status", "seconds",
    "sigma", "alpha", "plan",
)  # fmt: skip


def image_table(runs: Sequence[Run]) -> pd.DataFrame:
    """The images of all runs; see `frame_of` for the columns that it has.

    The others: `file` below the dataset's folder, and the names of the classes, empty where the
    run's files do not tell them; the lower bound of p_A and the true class's share of the
    estimation votes, see `TrueClass`, NaN where not known.
    """
    return pd.concat([_of_run(run) for run in runs], ignore_index=True)[[*ORDER]]


def _of_run(run: Run) -> pd.DataFrame:
    results, files, names = run.results, file_names(run.records), known_classes(run)
    known = dict(enumerate(names))  # -1 abstains, and has no name
    nothing = np.full(len(results), np.nan)
    told = results.true_class
    return frame_of(results).assign(
        run=run.name,
        file=[files.get(index, "") for index in results.index.tolist()],
        label_name=[known.get(label, "") for label in results.label.tolist()],
        predict_name=[known.get(predicted, "") for predicted in results.prediction.tolist()],
        true_class_p_lower=nothing if told is None else told.lower,
        true_class_votes_share=nothing if told is None else told.share,
    )
