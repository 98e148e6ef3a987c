"""`diffsmooth certify`, also `python certify.py`: certified radii of a dataset's images."""

from pathlib import Path

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.job import build_job
from diffsmooth.cli.options import SmoothingOptions, add_options
from diffsmooth.cli.run import run_job, show_images
from diffsmooth.report.figures import accuracy_figure, save_figure
from diffsmooth.report.tables import summary_text
from diffsmooth.report.tensorboard import write_run
from diffsmooth.stats import FixedSampleSize, Results
from diffsmooth.stats.results import CERTIFY_COLUMNS

DESCRIPTION = """Certifies images by DiffSmooth: purify the noisy image, average the classifier's
confidence over local copies, vote, and bound the top class's probability (Cohen et al.'s CERTIFY).
All radii are l2, in [0, 1] pixel units. Running the same command again goes on where it stopped."""


def make_parser(prog: str) -> OneLineParser:
    """The command's parser, with the defaults of the published code."""
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add_options(parser, batch=50, skip=100, n=10_000)
    parser.add_argument(
        "--n0", "--N0", dest="n0", type=int, default=100, help="votes that select the class"
    )
    return parser


def main(args: list[str] | None = None, prog: str = "certify.py") -> None:
    """Runs the command on `args`, by default the process's."""
    namespace = make_parser(prog).parse_args(args)
    with user_errors(prog):
        options = SmoothingOptions.from_namespace(namespace)
        plan = FixedSampleSize(namespace.n0, options.n, options.alpha)
        job = build_job(options, "certify", plan)
        events = Path(options.logdir) / "certify" / relative_name(job.files.stem)
    records = run_job(job, prog, CERTIFY_COLUMNS)
    if records is None:
        return
    files = job.files
    results = Results.from_records(records)
    text = summary_text(results)
    print(text)
    with user_errors(prog, OSError):
        save_figure(accuracy_figure({files.name: results}), files.figure)
        write_run(events, files.name, results, show_images(job.module, records), text)
    print(
        f"table {files.table}, figure {files.figure}, journal {files.journal}\n"
        f"curves and images: tensorboard --logdir {options.logdir}"
    )


def relative_name(stem: Path) -> Path:
    """A run's path below the working directory, or else below the root: one folder a run."""
    path = stem.resolve()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[1:])
