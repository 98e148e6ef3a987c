"""`diffsmooth attack`: what attacks leave of a run's accuracy, and of its certificates."""

from diffsmooth.cli.errors import show_error
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.attack_specification import AttackOptions

DESCRIPTION = """Attacks the smoothed classifier of a certified run on its images (SmoothAdv's PGD
and DDN, with gradients through the purifier), within and beyond each certificate, and predicts what
they make with fresh noise. Says empirical beside certified accuracy. Exits with 1 where fresh votes
contradict a certificate, or do not confirm more certificates than alpha allows. Running the same
command again goes on where it stopped."""
EXAMPLES = ("OUT.jsonl ATTACK.txt", "OUT.jsonl ATTACK.txt --radii 0.25 0.5 1 --max_images 50")


def main(args: list[str] | None = None, prog: str = "diffsmooth attack") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(
        AttackOptions, args, prog, DESCRIPTION, with_config=True, examples=EXAMPLES
    )
    # What follows imports torch, which takes seconds.
    from diffsmooth.cli.errors import user_errors
    from diffsmooth.cli.run import run
    from diffsmooth.lit.stopping import FAILED
    from diffsmooth.pipeline.attack import AttackWork
    from diffsmooth.pipeline.attack_publication import publish_attack
    from diffsmooth.pipeline.job import Job
    from diffsmooth.pipeline.publish import Say
    from diffsmooth.stats import ImageRecord
    from diffsmooth.stats.plans import MajorityVote

    problems: list[str] = []
    with user_errors(prog):
        work = AttackWork(options)

    def publish(job: Job, records: list[ImageRecord], say: Say) -> None:
        problems.extend(publish_attack(job, work, records, say))
        for problem in problems:  # before what is said of tries that failed
            show_error(prog, problem)

    plan = MajorityVote(options.n, options.alpha)
    run(work.job_options, "attack", plan, prog, publish, work)
    if problems:
        raise SystemExit(FAILED)
