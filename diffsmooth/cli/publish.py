"""What a finished certification shows beside its table: the summary, the figure, TensorBoard."""

from pathlib import Path

from diffsmooth.cli.errors import user_errors
from diffsmooth.lit.outputs import OutputFiles
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.tables import summary_text
from diffsmooth.report.tensorboard import ImageTriple, write_run
from diffsmooth.stats import ImageRecord, Results


def publish(
    files: OutputFiles,
    records: list[ImageRecord],
    logdir: Path,
    images: list[ImageTriple],
    command: str,
) -> None:
    """Prints the summary and writes the figure and the events.

    Args:
        files: of the run.
        records: of all its images.
        logdir: of the events; the run's folder in it is named like its table.
        images: to show in TensorBoard.
        command: for error messages.
    """
    results = Results.from_records(records)
    text = summary_text(results)
    print(text)
    with user_errors(command, OSError):
        save_figure(accuracy_figure({files.name: results}), files.figure)
        events = logdir / "certify" / relative_name(files.stem)
        write_run(events, files.name, results, images, text)
    print(
        f"table {files.table}, figure {files.figure}, journal {files.journal}\n"
        f"curves and images: tensorboard --logdir {logdir}"
    )


def relative_name(stem: Path) -> Path:
    """A run's path below the working directory, or else below the root: one folder a run."""
    path = stem.resolve()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[1:])
