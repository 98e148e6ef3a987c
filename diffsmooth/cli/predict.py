"""`diffsmooth predict`: the smoothed classifier's predictions, without radii."""

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.pipeline.specification import PredictOptions

DESCRIPTION = """Predicts images by the smoothed classifier (Cohen et al.'s PREDICT): the answer is
its class with probability at least 1 - alpha, or -1 (abstain)."""


def main(args: list[str] | None = None, prog: str = "diffsmooth predict") -> None:
    """Runs the command on `args`, by default the process's."""
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add_options(parser, PredictOptions, with_config=True)
    namespace = parser.parse_args(args)
    with user_errors(prog):
        options = PredictOptions.from_namespace(namespace).check_inputs()
    # What follows imports torch, which takes seconds.
    from diffsmooth.cli.run import report_failures, run, shard_text
    from diffsmooth.pipeline.job import build_job
    from diffsmooth.pipeline.publish import prediction_text
    from diffsmooth.stats.plans import MajorityVote

    with user_errors(prog):
        job = build_job(options, "predict", MajorityVote(options.n, options.alpha))
    records = run(job, prog)
    if records is None:
        return
    print(shard_text(job, records) if options.shard else prediction_text(job.files, records))
    report_failures(prog, records)
