"""What a finished certification shows beside its table: summary, figure, gallery, loggers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffsmooth.report.closing import Closing, run_record
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.loggers import log_run
from diffsmooth.report.text import summary_text
from diffsmooth.runs.gallery import GalleryImage, write_gallery
from diffsmooth.runs.names import OutputFiles
from diffsmooth.runs.reading import read_run
from diffsmooth.shown_text import shell_line, shown
from diffsmooth.stats import ImageRecord
from diffsmooth.stats.printed import counted, rounded_down, rounded_up

Say = Callable[[Closing], object]


def publish(
    files: OutputFiles,
    gallery: list[GalleryImage],
    logdir: Path,
    say: Say = lambda closing: print(closing.text),
    loggers: Sequence[str] = ("tensorboard",),
) -> None:
    """Says the summary of a finished run and writes the figure, the gallery and what is logged.

    Args:
        files: the run's files; its table, journal and manifest are read.
        gallery: a few of its images; those of an earlier call stay where there are none.
        logdir: folder of what is logged; the run's folder in it is named like its table.
        say: is told the summary.
        loggers: see `log_run`.
    """
    if gallery:
        write_gallery(files.images, gallery)
    run = read_run(files.table)
    text = summary_text(run.results)
    say(Closing(text, {**run_record(run.results), **files_record(files)}))
    save_figure(accuracy_figure({run.name: run.results}), files.figure)
    folder = logdir / "certify" / relative_name(files.stem)
    try:
        log_run(loggers, folder, run, text)
    except OSError as error:
        if error.filename is None:  # as of a full disk
            error.filename = str(folder)
        raise
    curves = ""
    if "tensorboard" in loggers:
        curves = f"curves and images: {shell_line('tensorboard', '--logdir', logdir)}\n"
    if "csv" in loggers:
        curves += f"curves as numbers: {shown(folder / 'metrics.csv')}\n"
    page = shell_line("diffsmooth", "report", files.table, "--html", f"{files.stem}.html")
    print(
        f"table {shown(files.table)}, figure {shown(files.figure)}, journal "
        f"{shown(files.journal)}\n{curves}"
        f"a page of all: {page}"
    )


def prediction_closing(files: OutputFiles, records: Sequence[ImageRecord]) -> Closing:
    """Accuracy and abstention of a finished run of `predict`, and where its files are."""
    accuracy = sum(record.correct for record in records) / len(records)
    abstained = sum(record.certificate.status == "abstained" for record in records) / len(records)
    text = (
        f"accuracy {rounded_down(accuracy)}, abstained {rounded_up(abstained)}, "
        f"{counted(len(records), 'image')}\n"
        f"table {shown(files.table)}, journal {shown(files.journal)}"
    )
    record = {"images": len(records), "accuracy": accuracy, "abstained": abstained}
    return Closing(text, {**record, **files_record(files)})


def files_record(files: OutputFiles) -> dict[str, str]:
    """Where a run's results are, for programs."""
    return {"table": str(files.table), "journal": str(files.journal)}


def relative_name(stem: Path) -> Path:
    """A run's path below the working directory, or else below the root: one folder a run."""
    path = stem.resolve()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[1:])
