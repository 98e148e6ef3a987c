"""`diffsmooth certify`, also `python certify.py`: certified radii of a dataset's images."""

from pathlib import Path

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.cli.plan_options import add_plan_options, build_plan
from diffsmooth.pipeline.specification import SmoothingOptions

DESCRIPTION = """Certifies images by DiffSmooth: purify the noisy image, average the classifier's
confidence over local copies, vote, and bound the top class's probability (Cohen et al.'s CERTIFY).
All radii are l2, in [0, 1] pixel units. Running the same command again goes on where it stopped."""


def make_parser(prog: str, description: str = DESCRIPTION) -> OneLineParser:
    """The command's parser, with the defaults of the published code."""
    parser = OneLineParser(prog=prog, description=description)
    add_options(parser, SmoothingOptions, with_config=True)
    add_plan_options(parser)
    return parser


def main(
    args: list[str] | None = None, prog: str = "certify.py", description: str = DESCRIPTION
) -> None:
    """Runs the command on `args`, by default the process's."""
    namespace = make_parser(prog, description).parse_args(args)
    with user_errors(prog):
        options, plan = SmoothingOptions.from_namespace(namespace), build_plan(namespace)
        options.check_inputs()
    # What follows imports torch, which takes seconds.
    from diffsmooth.cli.run import report_failures, run, shard_text
    from diffsmooth.pipeline.gallery import gallery_of
    from diffsmooth.pipeline.job import build_job
    from diffsmooth.pipeline.publish import publish

    with user_errors(prog):
        job = build_job(options, "certify", plan)
    records = run(job, prog)
    if records is None:
        return
    if options.shard:
        print(shard_text(job, records))
    else:
        gallery = gallery_of(job, records)
        with user_errors(prog):
            publish(job.files, gallery, Path(options.logdir))
    report_failures(prog, records)
