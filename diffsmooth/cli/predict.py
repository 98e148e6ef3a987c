"""`diffsmooth predict`: the smoothed classifier's predictions, without radii."""

from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.specification import PredictOptions

DESCRIPTION = """Predicts images by the smoothed classifier (Cohen et al.'s PREDICT): with
probability at least 1 - alpha it abstains (-1) or answers its class."""
EXAMPLES = ("cifar10 CHECKPOINT 0.50 OUT.txt --skip 100 --n 1000",)


def main(args: list[str] | None = None, prog: str = "diffsmooth predict") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(
        PredictOptions, args, prog, DESCRIPTION, with_config=True, examples=EXAMPLES
    )
    # What follows imports torch, which takes seconds.
    from diffsmooth.cli.run import run
    from diffsmooth.pipeline.publish import prediction_closing
    from diffsmooth.stats.plans import MajorityVote

    run(
        options,
        "predict",
        MajorityVote(options.n, options.alpha),
        prog,
        lambda job, records, say: say(prediction_closing(job.files, records)),
    )
