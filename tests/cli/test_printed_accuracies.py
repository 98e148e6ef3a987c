"""Accuracies in the commands' lines do not overstate."""

from pathlib import Path

import numpy as np

from diffsmooth.pipeline.publish import prediction_closing
from diffsmooth.pipeline.sanity import Accuracy
from diffsmooth.runs.names import OutputFiles
from diffsmooth.stats import ImageRecord, MajorityVote


def test_the_accuracy_of_single_votes() -> None:
    assert str(Accuracy(249, 250)) == "0.99 (249 of 250)"
    assert str(Accuracy(29, 100)) == "0.29 (29 of 100)"  # not 0.28


def test_predictions(tmp_path: Path) -> None:
    plan = MajorityVote(100, 0.001)
    run = plan.start(0.5, 2)
    run.update(np.array([100, 0]))
    undecided = plan.start(0.5, 2)
    undecided.update(np.array([50, 50]))
    records = [ImageRecord(i, 0, 1.0, run.certificate) for i in range(2499)]
    records.append(ImageRecord(2499, 0, 1.0, undecided.certificate))
    files = OutputFiles(tmp_path / "a\x1b[2J.txt")
    text = prediction_closing(files, records).text
    assert text.startswith("accuracy 0.999, abstained 0.001, 2,500 images\n")  # 1 of 2500: 0.0004
    assert r"a\x1b[2J.txt" in text
    # Nobody answered there, and nobody abstained.
    failed = ImageRecord(2499, 0, 1.0, plan.nothing(0.5), "ValueError: no image")
    text = prediction_closing(files, [*records[:-1], failed]).text
    assert text.startswith("accuracy 0.999, abstained 0.000, 2,500 images\n")
