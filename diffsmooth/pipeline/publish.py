"""What a finished certification shows beside its table: summary, figure, gallery, TensorBoard."""

from collections.abc import Sequence
from pathlib import Path

from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.tensorboard import write_run
from diffsmooth.report.text import summary_text
from diffsmooth.runs.gallery import GalleryImage, write_gallery
from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.reading import read_run
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.printed import rounded_down, rounded_up


def publish(files: OutputFiles, gallery: list[GalleryImage], logdir: Path) -> None:
    """Prints the summary of a finished run and writes the figure, the gallery and the events.

    Args:
        files: the run's files; its table, journal and manifest are read.
        gallery: a few of its images; those of an earlier call stay where there are none.
        logdir: folder of the events; the run's folder in it is named like its table.
    """
    if gallery:
        write_gallery(files.images, gallery)
    run = read_run(files.table)
    text = summary_text(run.results)
    print(text)
    save_figure(accuracy_figure({run.name: run.results}), files.figure)
    events = logdir / "certify" / relative_name(files.stem)
    try:
        write_run(events, run, text)
    except OSError as error:
        if error.filename is None:  # as of a full disk
            error.filename = str(events)
        raise
    print(
        f"table {shown(files.table)}, figure {shown(files.figure)}, journal "
        f"{shown(files.journal)}\ncurves and images: tensorboard --logdir {shown(logdir)}\n"
        f"a page of all: diffsmooth report {shown(files.table)} --html {shown(files.stem)}.html"
    )


def prediction_text(files: OutputFiles, records: Sequence[ImageRecord]) -> str:
    """Accuracy and abstention of a finished run of `predict`, and where its files are."""
    accuracy = sum(record.correct for record in records) / len(records)
    abstained = sum(record.certificate.status != "answered" for record in records) / len(records)
    return (
        f"accuracy {rounded_down(accuracy)}, abstained {rounded_up(abstained)}, "
        f"{len(records)} images\ntable {shown(files.table)}, journal {shown(files.journal)}"
    )


def relative_name(stem: Path) -> Path:
    """A run's path below the working directory, or else below the root: one folder a run."""
    path = stem.resolve()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[1:])
