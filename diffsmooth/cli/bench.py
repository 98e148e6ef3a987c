"""`diffsmooth bench`: votes a second of the published loop and of the engine on this machine."""

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import BenchOptions

EXAMPLES = ("--sections speed --workloads small --profile",)


def main(args: list[str] | None = None, prog: str = "diffsmooth bench") -> None:
    """Runs the command on `args`, by default the process's."""
    options = read_options(BenchOptions, args, prog, __doc__, examples=EXAMPLES)
    from diffsmooth.pipeline.bench import measure  # only now: torch takes seconds

    with user_errors(prog):
        measure(options)
