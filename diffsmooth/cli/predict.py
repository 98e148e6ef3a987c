"""`diffsmooth predict`: the smoothed classifier's predictions, without radii."""

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.cli.run import report_failures, run, shard_text
from diffsmooth.pipeline.job import build_job
from diffsmooth.pipeline.specification import SmoothingOptions
from diffsmooth.runs.names import OutputFiles
from diffsmooth.shown_text import shown
from diffsmooth.stats import ImageRecord, MajorityVote
from diffsmooth.stats.errors import option_values
from diffsmooth.stats.printed import rounded_down, rounded_up

DESCRIPTION = """Predicts images by the smoothed classifier (Cohen et al.'s PREDICT): the answer is
its class with probability at least 1 - alpha, or -1 (abstain)."""


def main(args: list[str] | None = None, prog: str = "diffsmooth predict") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add_options(parser, batch=1000, skip=1, n=100_000)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = SmoothingOptions.from_namespace(namespace)
        with option_values():
            plan = MajorityVote(options.n, options.alpha)
        job = build_job(options, "predict", plan)
    records = run(job, prog)
    if records is None:
        return
    print(shard_text(job, records) if options.part else prediction_text(job.files, records))
    report_failures(prog, records)


def prediction_text(files: OutputFiles, records: list[ImageRecord]) -> str:
    """Accuracy and abstention of a finished run, and where its files are."""
    accuracy = sum(record.correct for record in records) / len(records)
    abstained = sum(record.certificate.status != "answered" for record in records) / len(records)
    return (
        f"accuracy {rounded_down(accuracy)}, abstained {rounded_up(abstained)}, "
        f"{len(records)} images\ntable {shown(files.table)}, journal {shown(files.journal)}"
    )
