"""`diffsmooth certify`, also `python certify.py`: certified radii of a dataset's images."""

from pathlib import Path

from diffsmooth.cli.errors import OneLineParser, user_errors
from diffsmooth.cli.options import add_options
from diffsmooth.cli.plan_options import PlanOptions
from diffsmooth.pipeline.specification import SmoothingOptions

DESCRIPTION = """Certifies images by DiffSmooth: purify the noisy image, average the classifier's
confidence over local copies, vote, and bound the top class's probability (Cohen et al.'s CERTIFY).
All radii are l2, in [0, 1] pixel units. Running the same command again goes on where it stopped."""


def make_parser(prog: str) -> OneLineParser:
    """The command's parser, with the defaults of the published code."""
    parser = OneLineParser(prog=prog, description=DESCRIPTION)
    add_options(parser, SmoothingOptions, with_config=True)
    add_options(parser, PlanOptions)
    return parser


def main(args: list[str] | None = None, prog: str = "certify.py") -> None:
    """Runs the command on `args`, by default the process's."""
    namespace = make_parser(prog).parse_args(args)
    with user_errors(prog):
        options = SmoothingOptions.from_namespace(namespace)
        plan = PlanOptions.from_namespace(namespace).build(options.n, options.alpha)
        options.check_inputs()
    # What follows imports torch, which takes seconds.
    from diffsmooth.cli.run import run
    from diffsmooth.pipeline.gallery import gallery_of
    from diffsmooth.pipeline.publish import publish

    run(
        options,
        "certify",
        plan,
        prog,
        lambda job, records: publish(job.files, gallery_of(job, records), Path(options.logdir)),
    )
