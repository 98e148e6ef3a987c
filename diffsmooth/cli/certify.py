"""`diffsmooth certify`, also `python certify.py`: certified radii of a dataset's images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.specification import CertifyOptions

DESCRIPTION = """Certifies images by DiffSmooth: purify the noisy image, average the classifier's
confidence over local copies, vote, and bound the top class's probability (Cohen et al.'s CERTIFY).
All radii are l2, in [0, 1] pixel units. Running the same command again goes on where it stopped."""
EXAMPLES = (
    "cifar10 CHECKPOINT 0.50 OUT.txt --m 5 --sigma_local 0.25",
    "FOLDER CHECKPOINT 0.50 OUT.txt --purifier none --m 1 --sigma_local 0",
    "--config pkg:demo --N 100000 --plan group_sequential",
)


def main(
    args: list[str] | None = None,
    prog: str = "certify.py",
    description: str = DESCRIPTION,
    examples: Sequence[str] = EXAMPLES,
    preset: Mapping[str, Any] = {},
) -> None:
    """Runs the command on `args`, by default the process's; for `preset` see `read_options`."""
    options = read_options(
        CertifyOptions, args, prog, description, True, examples=examples, preset=preset
    )
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
        lambda job, records, say: publish(
            job.files, gallery_of(job, records), Path(options.logdir), say, options.logger
        ),
    )
