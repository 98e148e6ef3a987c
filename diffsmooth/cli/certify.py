"""`diffsmooth certify`, also `python certify.py`: certified radii of a dataset's images."""

from pathlib import Path

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.specification import CertifyOptions

DESCRIPTION = """Certifies images by DiffSmooth: purify the noisy image, average the classifier's
confidence over local copies, vote, and bound the top class's probability (Cohen et al.'s CERTIFY).
All radii are l2, in [0, 1] pixel units. Running the same command again goes on where it stopped."""


def main(
    args: list[str] | None = None, prog: str = "certify.py", description: str = DESCRIPTION
) -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(CertifyOptions, args, prog, description, with_config=True)
    with user_errors(prog):
        plan = options.build_plan(options.n, options.alpha)
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
